import errno
import os
from pathlib import Path

import pytest

from studies.protocol.event_log import EventReader, EventWriter, repair
from studies.protocol.events import Metrics, Report

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
        writer = EventWriter(path)  # repairs, then continues
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


def test_repair_returns_the_removed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert repair(path) == 0
    path.write_bytes(b'{"kind":')
    assert repair(path) == 8
    assert path.read_bytes() == b""


def test_a_broken_line_is_skipped_and_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = Report(1, 0, 0.5, time=1.0)
    line = good.to_json().encode() + b"\n"
    for rubbish in (b"rubbish", b"", b"{}", b"[1]", b'{"kind": "metrics"}', b"\xff\x00", b'"a\x85b"'):
        path.write_bytes(line + rubbish + b"\n" + line)
        reader = EventReader(path)
        assert reader.read() == [good, good]
        assert len(reader.broken) == 1 and "events.jsonl" in reader.broken[0]


def test_one_process_writes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    with pytest.raises(TimeoutError, match="being written by another"):
        EventWriter(path, wait=0.1)
    writer.close()
    EventWriter(path, wait=0.1).close()


def test_a_line_that_does_not_fit_the_disk_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.append(EVENTS[0])
    write, calls = os.write, []

    def full(file: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return write(file, data[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            writer.append(EVENTS[1])
    writer.append(EVENTS[2])
    assert EventReader(path).read() == [EVENTS[0], EVENTS[2]]


def test_only_durable_events_are_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    path = tmp_path / "events.jsonl"
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(path.read_bytes()))
    writer = EventWriter(path)
    writer.append(EVENTS[0])
    assert synced == []
    writer.append(EVENTS[1], durable=True)
    assert synced == [path.read_bytes()], "once, with the event in the file"
