from pathlib import Path

import pytest

from studies.event_log import EventReader, EventWriter, repair
from studies.messages import Metrics, Report

EVENTS = [Metrics(step, 0, {"val/loss": 1 / (step + 1), "naïve": 2.0}, time=1.0) for step in range(3)]


def written(path: Path) -> bytes:
    writer = EventWriter(path)
    for event in EVENTS:
        writer.append(event)
    writer.close()
    return path.read_bytes()


def test_reader_follows_writer(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    reader = EventReader(path)
    assert reader.read() == []
    writer = EventWriter(path)
    writer.append(EVENTS[0], durable=True)
    assert reader.read() == [EVENTS[0]]
    writer.append(EVENTS[1])
    writer.append(EVENTS[2])
    assert reader.read() == EVENTS[1:]
    assert reader.read() == []


def test_a_log_cut_at_every_byte_of_its_last_line_keeps_the_lines_before(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    data = written(path)
    last = data[:-1].rfind(b"\n") + 1
    for cut in range(last, len(data)):
        path.write_bytes(data[:cut])
        assert EventReader(path).read() == EVENTS[:2], cut
        writer = EventWriter(path)  # repairs, then goes on
        writer.append(EVENTS[2])
        writer.close()
        assert EventReader(path).read() == EVENTS, cut


def test_the_reader_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    data = written(path)
    path.write_bytes(data[:-5])
    reader = EventReader(path)
    assert reader.read() == EVENTS[:2]
    path.write_bytes(data)
    assert reader.read() == EVENTS[2:]


def test_repair_says_how_much_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert repair(path) == 0
    path.write_bytes(b'{"kind":')
    assert repair(path) == 8
    assert path.read_bytes() == b""


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(Report(1, 0, 0.5).to_json().encode() + b"\nrubbish\n")
    with pytest.raises(ValueError, match=r"events.jsonl.*rubbish"):
        EventReader(path).read()
