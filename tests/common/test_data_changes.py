from __future__ import annotations

from studies.common.data_changes import data_changed, digests_of


def test_only_what_was_read_in_both_is_compared() -> None:
    before = {"train": "aa", "val": "bb", "test": "cc"}
    assert data_changed(before, before) is None and data_changed({}, before) is None
    assert data_changed(before, {"train": "a2", "val": "bb"}) == "data changed since: train aa -> a2"
    assert data_changed(before, {"test": "c2", "train": "a2"}) == "data changed since: train aa -> a2, test cc -> c2"
    splits = {"train": {"digest": "aa", "read": 3}, "val": {"digest": "bb", "read": 0}}
    assert digests_of(splits) == {"train": "aa"}
