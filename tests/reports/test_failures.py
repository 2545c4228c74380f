from __future__ import annotations

from pathlib import Path

from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Failed, Finished
from studies.reports.failures import NO_NUMBER, UNKNOWN, failures
from studies.search import TrialRow


def failed(folder: Path, number: int, ending: Event | None) -> TrialRow:
    run = f"run{number}"
    (folder / run).mkdir()
    log = EventWriter(folder / run / NAME)
    if ending is not None:
        log.append(ending)
    log.close()
    return TrialRow(number, "FAIL", None, {}, run)


def test_trials_are_grouped_by_reason_whatever_the_numbers_in_it(tmp_path: Path) -> None:
    texts = ["ValueError: size 3 of 0x7f3a", "KeyError: 'x'", "ValueError: size 17 of 0x11"]
    rows = [failed(tmp_path, number, Failed(text, "")) for number, text in enumerate(texts)]
    rows += [failed(tmp_path, 3, Finished({})), failed(tmp_path, 4, None), TrialRow(5, "COMPLETE", 1.0)]
    found = {failure.reason: failure.trials for failure in failures(rows, tmp_path.joinpath)}
    assert found == {texts[0]: [0, 2], texts[1]: [1], NO_NUMBER: [3], UNKNOWN: [4]}


def test_the_most_frequent_reason_is_first_and_one_line(tmp_path: Path) -> None:
    rows = [failed(tmp_path, 0, Failed("KeyError: 1\n\x1b[31mred", ""))]
    rows += [failed(tmp_path, number, Failed("OSError", "")) for number in (1, 2)]
    first, second = failures(rows, tmp_path.joinpath)
    assert first.trials == [1, 2] and second.reason == "KeyError: 1 \\x1b[31mred"


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    row = failed(tmp_path, 0, Failed("MemoryError", "x" * 1000))
    path = tmp_path / "run0" / NAME
    path.write_bytes(b"x" * 1_000_000 + b"\n" + path.read_bytes())
    assert failures([row], tmp_path.joinpath)[0].reason == "MemoryError"
    path.unlink()
    path.mkdir()
    assert failures([row], tmp_path.joinpath)[0].reason == UNKNOWN
