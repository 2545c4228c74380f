"""The samples behind a dataloader of any class, as parts whose content can be hashed and looked at.

What is held in tensors is hashed whole, without a call of the data set's own code: it draws no random number and may be
done in a training's process. Any other map-style data set has to be asked for its samples (`drawn_samples.py`), which
may draw some, so that is done in the preflight check's process. A stream is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from studies.trial.row_hashes import bytes_of, row_hashes

BYTES = 256 << 20  # of tensors that are hashed; of larger ones, evenly spaced rows
CLASSES = range(2, 1001)  # numbers of classes that are counted


@dataclass
class Held:
    """Samples that are rows of tensors.

    Attributes:
        tensors: each (N, ...); the first one holds the inputs, the last one of several the targets.
        chosen: the rows that are samples, int64 (M,); None: all.
    """

    tensors: tuple[Tensor, ...]
    chosen: np.ndarray | None = None

    @property
    def total(self) -> int:
        return len(self.tensors[0]) if self.chosen is None else len(self.chosen)

    @cached_property
    def places(self) -> np.ndarray:
        """The samples that are looked at, int64 (n,)."""
        size = sum(tensor[:1].numel() * tensor.element_size() for tensor in self.tensors)
        return evenly(self.total, max(1, BYTES // max(1, size)))

    @property
    def _rows(self) -> np.ndarray | None:
        if self.chosen is not None:
            return self.chosen[self.places]
        return None if len(self.places) == self.total else self.places

    @cached_property
    def inputs(self) -> np.ndarray:
        """Hashes of the inputs, uint64 (n,)."""
        return row_hashes(self.tensors[:1], self._rows)

    def contents(self) -> bytes:
        """Equal for equal samples, inputs and targets, in the same order."""
        others = self.tensors[1:]
        return self.inputs.tobytes() + (row_hashes(others, self._rows).tobytes() if others else b"")

    def input_bytes(self, places: np.ndarray) -> list[bytes]:
        """The inputs of some samples."""
        rows = torch.from_numpy(places if self.chosen is None else self.chosen[places])
        return [row.tobytes() for row in bytes_of(self.tensors[0][rows.to(self.tensors[0].device)])]

    def targets(self) -> np.ndarray | None:
        """The targets, if they are an integer each: int64 (M,)."""
        last = self.tensors[-1]
        if len(self.tensors) < 2 or last.is_floating_point() or last.is_complex() or last[:1].numel() != 1:
            return None
        values = last.detach().cpu().reshape(-1).numpy().astype(np.int64)
        return values if self.chosen is None else values[self.chosen]


@dataclass
class Drawn:
    """Samples of a map-style data set, which has to be asked for them.

    Attributes:
        chosen: its indices that are samples, int64 (M,); None: all.
    """

    dataset: Any
    chosen: np.ndarray | None = None

    @property
    def total(self) -> int:
        return len(self.dataset) if self.chosen is None else len(self.chosen)

    def targets(self) -> np.ndarray | None:
        """The targets that a data set lists itself, as torchvision's do: int64 (M,)."""
        listed = getattr(self.dataset, "targets", None)
        try:
            values = np.asarray(listed)
        except (ValueError, TypeError, RuntimeError):
            return None
        if values.ndim != 1 or values.dtype.kind not in "iub" or len(values) != len(self.dataset):
            return None
        return values.astype(np.int64) if self.chosen is None else values[self.chosen].astype(np.int64)


@dataclass
class Stream:
    """Samples that only come in order, and perhaps without end."""

    source: Any
    total: int | None = None

    def targets(self) -> np.ndarray | None:
        return None


Part = Held | Drawn | Stream


def parts_of(loaders: Any) -> list[Part]:
    """The samples of one, several or named loaders, in order."""
    return [part for loader in flat(loaders) for part in _of_loader(loader)]


def flat(loaders: Any) -> list[Any]:
    """One, several or named loaders as a list."""
    if loaders is None:
        return []
    if isinstance(loaders, list | tuple):
        return [item for one in loaders for item in flat(one)]
    if isinstance(loaders, Mapping):
        return [item for one in loaders.values() for item in flat(one)]
    return [loaders]


def _of_loader(loader: Any) -> Iterator[Part]:
    tensors, dataset = getattr(loader, "tensors", None), getattr(loader, "dataset", None)
    if _are_rows(tensors):
        yield Held(tuple(tensors), _indices(getattr(loader, "subset", None)))
    elif dataset is not None:
        yield from _of_dataset(dataset, None)
    else:
        yield Stream(loader, _length(getattr(loader, "sampler", None)))


def _of_dataset(dataset: Any, chosen: np.ndarray | None) -> Iterator[Part]:
    if isinstance(dataset, Subset):
        indices = _indices(dataset.indices)
        assert indices is not None
        yield from _of_dataset(dataset.dataset, indices if chosen is None else indices[chosen])
    elif isinstance(dataset, ConcatDataset) and chosen is None:
        for part in dataset.datasets:
            yield from _of_dataset(part, None)
    elif isinstance(dataset, IterableDataset):
        yield Stream(dataset, _length(dataset))
    elif (tensors := _tensors(dataset)) is not None:
        yield Held(tensors, chosen)
    elif hasattr(dataset, "__getitem__") and _length(dataset) is not None:
        yield Drawn(dataset, chosen)
    else:
        yield Stream(dataset, _length(dataset))


def _tensors(dataset: Any) -> tuple[Tensor, ...] | None:
    """The tensors of a TensorDataset, or the raw images and labels that torchvision's small data sets hold."""
    tensors = getattr(dataset, "tensors", None)
    if _are_rows(tensors) and len(tensors[0]) == _length(dataset):
        return tuple(tensors)
    if any(cls.__module__.partition(".")[0] == "torchvision" for cls in type(dataset).__mro__):
        data = getattr(dataset, "data", None)
        labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
        if isinstance(data, Tensor | np.ndarray) and isinstance(labels, Tensor | np.ndarray | list):
            found = torch.as_tensor(data), torch.as_tensor(labels)
            return found if _are_rows(found) and len(found[0]) == len(dataset) else None
    return None


def _are_rows(tensors: Any) -> TypeGuard[Sequence[Tensor]]:
    return (
        isinstance(tensors, list | tuple)
        and len(tensors) > 0
        and all(isinstance(tensor, Tensor) and tensor.dim() > 0 for tensor in tensors)
        and len({len(tensor) for tensor in tensors}) == 1
        and not any(tensor.is_sparse for tensor in tensors)
    )


def _indices(indices: Any) -> np.ndarray | None:
    if indices is None:
        return None
    values = indices.detach().cpu().numpy() if isinstance(indices, Tensor) else np.asarray(list(indices), np.int64)
    return values.astype(np.int64)


def _length(holder: Any) -> int | None:
    """The number of samples, or None if it is not known."""
    try:
        return len(holder)
    except (TypeError, NotImplementedError, AttributeError):
        return None


def evenly(total: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 to total - 1, evenly spaced."""
    if total <= most:
        return np.arange(total)
    return np.linspace(0, total - 1, most).round().astype(np.int64)
