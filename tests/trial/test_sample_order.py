"""What DataLoaders draw, noted without changing it."""

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler, TensorDataset

from datamodules.in_memory_loader import InMemoryLoader
from studies.trial.sample_order import SampleOrder

DATA = TensorDataset(torch.arange(10.0))


class Own(Sampler[int]):
    """A user's sampler, which draws when it is asked for an iterator, not at the first index."""

    def __iter__(self) -> Any:
        return iter(torch.randperm(10).tolist())

    def __len__(self) -> int:
        return 10


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(10))


def loader(kind: str) -> DataLoader[Any]:
    if kind == "own sampler":
        return DataLoader(DATA, batch_size=3, sampler=Own())
    if kind == "batch sampler":
        return DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 3, drop_last=True))
    if kind == "no batches":
        return DataLoader(DATA, batch_size=None, sampler=RandomSampler(DATA))
    return DataLoader(DATA, batch_size=3, shuffle=kind == "shuffled", num_workers=0)


def order(kind: str, seed: int, stop: int | None = None) -> tuple[str, list[Any]]:
    """The hash of an epoch, and its batches."""
    torch.manual_seed(seed)
    one, watch = loader(kind), SampleOrder()
    watch.clear()
    watch.watch(one)
    batches = [repr(batch) for _, batch in zip(range(stop or 99), one, strict=False)]
    found = watch.digest([one])
    watch.clear()
    return found, batches


@pytest.mark.parametrize("kind", ["shuffled", "own sampler", "batch sampler", "no batches", "in order"])
def test_the_order_of_an_epoch(kind: str) -> None:
    torch.manual_seed(1)
    unwatched = [repr(batch) for batch in loader(kind)]
    found, batches = order(kind, 1)
    assert batches == unwatched  # the same random numbers, drawn at the same time
    assert len(found) == 16 and order(kind, 1)[0] == found
    assert (order(kind, 2)[0] == found) is (kind == "in order")
    assert order(kind, 1, stop=1)[0] != found


def test_classes_are_as_before_afterwards() -> None:
    before = [(cls, vars(cls).get("__iter__")) for cls in (BatchSampler, RandomSampler, Own)]
    for kind in ("shuffled", "own sampler", "no batches"):
        order(kind, 1)
    assert before == [(cls, vars(cls).get("__iter__")) for cls, _ in before]


def test_another_loader_of_the_same_class_does_not_count() -> None:
    torch.manual_seed(1)
    one, other, watch = loader("in order"), loader("shuffled"), SampleOrder()
    watch.watch(one)
    list(one), list(other)
    alone = order("in order", 1)[0]
    assert watch.digest([one]) == alone and watch.digest([other]) == ""
    watch.clear()


def test_a_stream_does_not_tell() -> None:
    stream = DataLoader(Stream(), batch_size=2)
    watch = SampleOrder()
    watch.watch(stream)
    assert watch.digest([stream]) == "" == watch.digest([])


def test_an_epoch_taken_up_at_a_restored_position_is_not_known_in_whole() -> None:
    one, watch = loader("shuffled"), SampleOrder()
    watch.watch(one)
    list(one)
    watch.miss()
    assert watch.digest([one]) == ""
    watch.clear()


def test_a_loader_that_owns_its_randomness_is_asked() -> None:
    one = InMemoryLoader((torch.arange(10.0),), batch_size=3, shuffle=True, seed=4)
    watch = SampleOrder()
    watch.miss()  # it knows all of its order, wherever it is taken up
    first = watch.digest([one])
    one.sampler.set_epoch(1)
    assert len(first) == 16 and watch.digest([one]) != first
