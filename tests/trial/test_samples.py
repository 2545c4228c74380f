from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from datamodules import InMemoryLoader
from studies.trial import samples
from studies.trial.samples import Drawn, Held, Stream, evenly, flat, parts_of

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10) % 3


class Numbers(Dataset[int]):
    targets = [0, 1, 1, 0]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        raise AssertionError("no sample is drawn")


class Endless(IterableDataset[int]):
    def __iter__(self) -> Any:
        raise AssertionError("nothing is loaded")


def test_tensors_are_found_in_subsets_and_in_several_loaders() -> None:
    whole = TensorDataset(X, Y)
    nested = Subset(Subset(whole, [9, 8, 7, 6]), [3, 0])
    loaders = {
        "a": [DataLoader(nested), InMemoryLoader((X, Y), 2, subset=torch.tensor([6, 9]))],
        "b": DataLoader(whole),
    }
    first, second, third = parts_of(loaders)
    assert isinstance(first, Held) and isinstance(second, Held) and isinstance(third, Held)
    assert first.total == 2 and first.contents() == second.contents()
    assert np.array_equal(first.inputs, third.inputs[[6, 9]])
    assert first.input_bytes(np.array([1])) == [X[9].numpy().tobytes()]
    targets = first.targets()
    assert targets is not None and targets.tolist() == [0, 0]
    assert [part.total for part in parts_of(DataLoader(ConcatDataset([whole, whole])))] == [10, 10]


def test_other_data_sets_are_told_apart_without_drawing_a_sample() -> None:
    drawn, stream, unknown = parts_of([DataLoader(Subset(Numbers(), [1, 3])), DataLoader(Endless()), object()])
    assert isinstance(drawn, Drawn) and isinstance(stream, Stream) and isinstance(unknown, Stream)
    targets = drawn.targets()
    assert targets is not None and targets.tolist() == [1, 0]
    assert stream.total is None and flat(None) == []


def test_a_data_set_with_fewer_samples_than_rows_is_asked_for_them() -> None:
    class Windows(TensorDataset):
        def __len__(self) -> int:
            return 7

    assert isinstance(parts_of(DataLoader(Windows(X)))[0], Drawn)


def test_of_very_large_tensors_some_rows_are_hashed(monkeypatch: Any) -> None:
    monkeypatch.setattr(samples, "BYTES", 4 * 8)
    part = Held((X,))
    assert part.places.tolist() == [0, 3, 6, 9] and len(part.inputs) == 4
    before = part.contents()
    other = X.clone()
    other[4] = 0
    assert Held((other,)).contents() == before, "it was not looked at"
    other[9] = 0
    assert Held((other,)).contents() != before


def test_evenly() -> None:
    assert evenly(3, 5).tolist() == [0, 1, 2] and evenly(100, 3).tolist() == [0, 50, 99] and evenly(0, 3).tolist() == []
