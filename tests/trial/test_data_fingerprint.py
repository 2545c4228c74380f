from __future__ import annotations

from typing import Any

import torch
from test_drawn_samples import Augmented
from torch.utils.data import DataLoader, Subset, TensorDataset

from datamodules import InMemoryLoader
from studies.trial import data_fingerprint
from studies.trial.data_fingerprint import Fingerprint, fingerprint

ONES = torch.ones(50, 3)


def of(loaders: Any, **more: Any) -> Fingerprint:
    found = fingerprint("train", loaders, **more)
    assert found is not None
    return found


def test_the_digest_is_that_of_all_samples_in_order() -> None:
    def digest(data: torch.Tensor, batch_size: int = 8, **more: Any) -> str:
        return of([DataLoader(TensorDataset(data), batch_size=batch_size, **more)]).digest

    other = ONES.clone()
    other[17, 1] = 2
    assert digest(ONES) == digest(ONES.clone(), batch_size=16, shuffle=True) != digest(other)
    assert digest(ONES) != digest(ONES.double()) and digest(ONES) != digest(ONES[:49])
    assert digest(other) != digest(other.flip(0))
    numbers = torch.arange(50)
    parts = [InMemoryLoader((numbers,), 8, subset=torch.arange(start, start + 9)) for start in (0, 9)]
    assert len({of(part).digest for part in parts}) == 2 and of(parts[0]).samples == 9
    assert of(parts[0]).digest == of(DataLoader(Subset(TensorDataset(numbers), range(9)))).digest
    assert fingerprint("test", None) is None


def test_classes_are_counted() -> None:
    labels = torch.tensor([0, 2, 2] * 10)
    assert of(DataLoader(TensorDataset(ONES[:30], labels))).classes == {"0": 10, "2": 20}
    assert of(DataLoader(Subset(TensorDataset(ONES[:30], labels), [0, 1, 2]))).classes == {"0": 1, "2": 2}
    for others in (torch.arange(2000), torch.zeros(2000, dtype=torch.long), torch.rand(2000)):
        assert of(DataLoader(TensorDataset(torch.ones(2000, 1), others))).classes == {}


def test_another_process_recognizes_data_at_a_glance(monkeypatch: Any) -> None:
    loader = DataLoader(TensorDataset(ONES, torch.arange(50) % 2))
    seen = of(loader)
    known = {"train": seen.known}
    monkeypatch.setattr(data_fingerprint.Held, "contents", lambda self: 1 / 0)
    again = of(loader, known=known)
    assert (again.digest, again.samples, again.read, again.classes) == (seen.digest, 50, 50, {"0": 25, "1": 25})
    monkeypatch.undo()
    other = of(DataLoader(TensorDataset(ONES * 2, torch.arange(50) % 2)), known=known)
    assert other.digest != seen.digest and other.read == 50


def test_samples_are_asked_for_in_the_preflight_check_alone() -> None:
    base = Augmented()
    halves = [DataLoader(Subset(base, part)) for part in (range(5), range(5, 10))]
    seen = of(halves, readings={})
    assert seen.read == 10 and seen.unread == []

    class Forbidden(Augmented):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError

    Forbidden.__qualname__ = Augmented.__qualname__
    base = Forbidden()
    halves = [DataLoader(Subset(base, part)) for part in (range(5), range(5, 10))]
    assert of(halves, known={"train": seen.known}).digest == seen.digest
    halves = [DataLoader(Subset(base, part)) for part in (range(6), range(6, 10))]  # as another seed splits it
    other = of(halves, known={"train": seen.known})
    assert other.digest != seen.digest and other.read == 10 and len(other.looked_at) == 2
    unknown = of(halves, known={})
    assert unknown.read == 0 and "not drawn" in unknown.unread[0] and len(unknown.digest) == 12


def test_nothing_is_drawn_from_a_generator() -> None:
    before = torch.get_rng_state()
    of([DataLoader(TensorDataset(ONES), shuffle=True)])
    assert torch.equal(torch.get_rng_state(), before)
