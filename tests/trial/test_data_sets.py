from __future__ import annotations

from pathlib import Path
from typing import Any

from test_run import TOY, events_of

from studies.protocol.events import DataSet


def described(folder: Path, **fields: Any) -> dict[str, DataSet]:
    return {event.split: event for event in events_of(folder, **fields) if isinstance(event, DataSet)}


def test_each_split_has_a_name_a_size_and_where_it_comes_from(tmp_path: Path) -> None:
    found = described(tmp_path, test=True)
    assert list(found) == ["train", "val", "test"]
    train = found["train"]
    assert (train.name, train.samples, train.source) == ("ToyData train", 32, "toy.ToyData(batch_size=8)")
    assert train.digest == found["val"].digest, "the toy validates on what it trains on"
    again = described(tmp_path / "again", experiment={**TOY, "data": {"class_path": "toy.ToyData", "init_args": {}}})
    assert again["train"].digest == train.digest and list(again) == ["train", "val"]


def test_what_the_preflight_check_read_is_in_the_trials_events(tmp_path: Path) -> None:
    events = described(tmp_path, data_sets={"train": {"glance": "other"}}, test=True)
    assert events["train"].read == 32 and events["train"].classes == {}, "other data than at a glance: read again"
