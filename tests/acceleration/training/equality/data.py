"""Data of 400 rows, 8 numbers -> 3 classes, as batches and loaders of many kinds."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

ROWS, BATCH = 400, 40
Fields = namedtuple("Fields", "inputs targets extra")


def rows(count: int = ROWS) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    return inputs, inputs[:, :3].argmax(dim=1)


class Data(LightningDataModule):
    """Batches (inputs, targets), as a list, like DataLoader's."""

    def setup(self, stage: str | None = None) -> None:
        self.dataset = TensorDataset(*rows())

    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset, BATCH, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self) -> Any:
        return DataLoader(self.dataset, 200)

    collate: Callable[[list[Any]], Any] | None = None


def stacked(items: list[Any]) -> tuple[Tensor, Tensor]:
    return torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])


class Tuples(Data):
    collate = staticmethod(stacked)


class Dictionaries(Data):
    @staticmethod
    def collate(items: list[Any]) -> Any:
        inputs, targets = stacked(items)
        return {"inputs": inputs, "targets": targets, "names": [str(int(target)) for target in targets]}


class NamedTuples(Data):
    @staticmethod
    def collate(items: list[Any]) -> Any:
        return Fields(*stacked(items), {"names": ["row"] * len(items)})


class SomeAreNone(Data):
    """A collate_fn that returns None for a bad batch."""

    @staticmethod
    def collate(items: list[Any]) -> Any:
        inputs, targets = stacked(items)
        return None if int(targets.sum()) % 3 == 0 else (inputs, targets)


class AreKept(Data):
    """The loader yields the same list each time."""

    def train_dataloader(self) -> Any:
        inputs, targets = rows()
        batches = [list(pair) for pair in zip(inputs.split(BATCH), targets.split(BATCH), strict=True)]
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]


class TwoValidationSets(Data):
    def val_dataloader(self) -> Any:
        return [DataLoader(self.dataset, 200), DataLoader(self.dataset, 100)]


class NoValidation(Data):
    val_dataloader = LightningDataModule.val_dataloader


class TwoAtOnce(Data):
    def train_dataloader(self) -> Any:
        return {"one": DataLoader(self.dataset, BATCH, shuffle=True), "two": DataLoader(self.dataset, 80)}


class Combined(Data):
    mode = "max_size_cycle"

    def train_dataloader(self) -> Any:
        loaders = [DataLoader(self.dataset, BATCH, shuffle=True), DataLoader(self.dataset, 80)]
        return CombinedLoader(loaders, self.mode)  # type: ignore[arg-type]


class CombinedMinimum(Combined):
    mode = "min_size"


class CombinedMaximum(Combined):
    mode = "max_size"


class Sequential(Combined):
    mode = "sequential"


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(*rows(), strict=True)


class SizedStream(Stream):
    def __len__(self) -> int:
        return ROWS


class OverstatedStream(Stream):
    """Reports a length that is too large."""

    def __len__(self) -> int:
        return ROWS + 150


class OfNoLength(Data):
    stream: type[Stream] = Stream

    def train_dataloader(self) -> Any:
        return DataLoader(self.stream(), BATCH)


class OfALength(OfNoLength):
    stream = SizedStream


class OfTooGreatALength(OfNoLength):
    stream = OverstatedStream


class Weighted(Data):
    def train_dataloader(self) -> Any:
        sampler = WeightedRandomSampler(torch.arange(ROWS) + 1.0, 330)  # type: ignore[arg-type]
        return DataLoader(self.dataset, BATCH, sampler=sampler, drop_last=True)


class ChangesBatches(Data):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 2, *batch[1:]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 1, *batch[1:]]


KINDS: list[type[Data]] = [Data, Tuples, Dictionaries, NamedTuples, SomeAreNone, AreKept, TwoValidationSets]
KINDS += [NoValidation, TwoAtOnce, Combined, CombinedMinimum, CombinedMaximum, Sequential]
KINDS += [OfNoLength, OfALength, OfTooGreatALength, Weighted, ChangesBatches]
