from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_drawn_samples import Listed
from torch.utils.data import DataLoader, TensorDataset

from studies.trial import drawn_samples
from studies.trial.data_fingerprint import fingerprint
from studies.trial.data_overlap import overlaps


def found(**splits: Any) -> list[str]:
    prints = {split: fingerprint(split, loaders) for split, loaders in splits.items()}
    return overlaps({split: each for split, each in prints.items() if each is not None})


def held(values: Any, targets: int = 0) -> DataLoader[Any]:
    x = torch.tensor(values, dtype=torch.float32).reshape(-1, 1)
    return DataLoader(TensorDataset(x, torch.full((len(x),), targets)))


def test_equal_inputs_are_found_whatever_their_targets() -> None:
    lines = found(train=held([1, 2, 3]), val=held([4, 5], 1), test=held([6, 3, 5, 3], 2))
    assert lines == [
        "2 of 4 test samples are also in train, e.g. test[1] = train[2]",
        "1 of 4 test samples are also in val, e.g. test[2] = val[1]",
    ]
    assert found(train=held([1]), val=held([1])) == ["1 of 1 val sample is also in train, e.g. val[0] = train[0]"]
    assert found(train=held([1, 2]), test=held([])) == []


def test_samples_of_several_loaders_are_counted_from_the_first() -> None:
    (line,) = found(train=[held([1, 2]), held([3])], val={"a": held([7]), "b": held([3])})
    assert line.endswith("e.g. val[1] = train[2]")


def test_samples_of_other_types_and_shapes_are_different() -> None:
    zeros = DataLoader(TensorDataset(torch.zeros(2, 4)))
    assert found(train=zeros, test=DataLoader(TensorDataset(torch.zeros(2, 2, 2)))) == []
    assert found(train=zeros, test=DataLoader(TensorDataset(torch.zeros(2, 4, dtype=torch.int32)))) == []


def test_equal_hashes_of_different_samples_are_no_overlap() -> None:
    train, test = fingerprint("train", held([1, 2])), fingerprint("test", held([3, 4]))
    assert train is not None and test is not None
    for split in (train, test):
        (part,) = split.looked_at
        assert part is not None
        part.inputs = np.zeros(2, np.uint64)
    assert overlaps({"train": train, "test": test}) == []


def test_of_partly_read_data_it_is_said(monkeypatch: Any) -> None:
    for name in ("FEWEST", "MOST"):
        monkeypatch.setattr(drawn_samples, name, 5)
    monkeypatch.setattr(drawn_samples, "SECONDS", -1.0)
    train, test = DataLoader(Listed(list(range(9)))), DataLoader(Listed([*range(100, 108), 4]))
    (line,) = found(train=train, test=test)
    assert line == (
        "1 of 5 test samples that were looked at, of 9, are also in train (5 of 9 were looked at), "
        "e.g. test[8] = train[4]"
    )


numbers = st.lists(st.integers(0, 30), max_size=12)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers)
def test_the_count_is_that_of_a_loop(train: list[int], test: list[int]) -> None:
    expected = sum(value in train for value in test)
    lines = found(train=held(train), test=held(test))
    assert [int(line.split()[0]) for line in lines] == ([expected] if expected else [])
