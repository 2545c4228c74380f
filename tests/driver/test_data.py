from __future__ import annotations

from pathlib import Path

from studies.driver.data import Data
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import DataSet


def test_a_run_is_compared_by_the_last_data_that_it_was_trained_on(tmp_path: Path) -> None:
    log = EventWriter(tmp_path / NAME)
    for split, digest, read in (("train", "a1", 9), ("val", "b1", 0), ("test", "c1", None), ("train", "a2", 9)):
        log.append(DataSet(split, "Toy", digest, "toy", 9, read))
    log.close()
    now = {split: {"digest": "zz", "read": 9} for split in ("train", "val", "test")}
    assert Data(now).changed_since(tmp_path) == "data changed since: train a2 -> zz", (
        "an older version read no test set"
    )
    assert Data({"train": {"digest": "a2", "read": 9}}).changed_since(tmp_path) is None
    assert Data(now).changed_since(tmp_path / "absent") is None


def test_overlap_is_said_and_becomes_a_tag() -> None:
    said: list[str] = []
    data = Data({}, ["1 of 2 val samples", "3 of 4 test samples"])
    data.warn(said.append)
    assert said == ["overlap: 1 of 2 val samples", "overlap: 3 of 4 test samples"]
    assert data.tags == {"harness.overlap": "1 of 2 val samples; 3 of 4 test samples"} and Data().tags == {}
