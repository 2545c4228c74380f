"""Mini-batches sliced from tensors in memory or on the GPU.

A DataLoader fetches, converts and collates item by item, which for small data costs many times the training itself.
Here a batch is one indexing operation.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

GATHERED = 512  # samples fetched and transformed at once if that does not change results

# Turns the rows of a raw batch into the batch to yield: (*rows, generator) -> tuple of tensors.
Transform = Callable[..., tuple[Tensor, ...]]


class SeededOrder:
    """The order of samples, which depends only on (seed, epoch).

    Args:
        length: number of samples, >= 1.
        shuffle: False gives 0, 1, 2, ... in every epoch.
        seed: >= 0.
    """

    def __init__(self, length: int, shuffle: bool, seed: int) -> None:
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, >= 0, that is iterated next. Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """All sample indices in this epoch's order, int64 (length,), on the CPU."""
        if not self.shuffle:
            return torch.arange(self.length)
        return torch.randperm(self.length, generator=seeded_generator(self.seed, self.epoch))

    def __len__(self) -> int:
        return self.length


class GroupedOrder(SeededOrder):
    """An order in which each batch holds samples of one group, such as sequences of one length: nothing is padded.

    In each epoch the samples are shuffled within their group and the batches among each other. A group's last samples
    that fill no batch are left out, others in each epoch.

    Args:
        groups: each sample's group, int64 (N,).
        batch_size: samples in one batch of all ranks together, >= 1.
        seed: >= 0.

    Raises:
        ValueError: no group fills a batch.
    """

    def __init__(self, groups: Tensor, batch_size: int, seed: int) -> None:
        self.groups, self.batch_size = groups.cpu(), batch_size
        sizes = torch.bincount(self.groups)
        super().__init__(int((sizes // batch_size).sum()) * batch_size, shuffle=True, seed=seed)
        if not self.length:
            raise ValueError(f"batch_size must be at most {int(sizes.max())}, the largest group, but got {batch_size=}")

    def indices(self) -> Tensor:
        generator = seeded_generator(self.seed, self.epoch)
        order = torch.randperm(len(self.groups), generator=generator)
        order = order[self.groups[order].sort(stable=True).indices]  # shuffled within each group
        by_group = order.split(torch.bincount(self.groups).tolist())
        size = self.batch_size
        batches = torch.cat([group[: len(group) // size * size].view(-1, size) for group in by_group])
        return batches[torch.randperm(len(batches), generator=generator)].flatten()


class InMemoryLoader:
    """An iterable of mini-batches from tensors with equal first dimension.

    Under torch.distributed, all ranks form the same global batches of world size * batch_size samples and each yields
    its slice, so two ranks with 64 together see exactly what one process sees with 128.

    A checkpoint taken within an epoch keeps the position (`state_dict`), so a resumed epoch continues with the
    batch after the last trained one.

    Args:
        tensors: e.g. images (N, ...) and labels (N,); all on one device, which the batches will be on, too.
        batch_size: samples per rank in one batch, >= 1.
        shuffle: a new order in each epoch; see `SeededOrder`. Outside a Trainer call
            `loader.sampler.set_epoch(epoch)` yourself, as with torch's DistributedSampler.
        seed: decides the order and the transform's randomness, >= 0.
        drop_last: omit the last batch of an epoch if it is smaller than the others.
        transform: called as transform(*rows, generator) with the rows of a batch and a torch.Generator on
            their device, seeded by (seed, epoch, batch index); returns the batch. None yields the rows.
        samplewise: the transform treats samples independently and draws nothing, so it may be called with the rows
            of several batches at once, which is faster.
        subset: indices of the samples to use, int64 (M,); None uses all.
        groups: each sample's group, int64 (N,): each batch then has samples of one group alone, in shuffled order, and
            all batches are complete; see `GroupedOrder`. Not together with a subset.

    Raises:
        ValueError: batch_size is below 1, or drop_last would leave no batch at all.
    """

    owns_randomness = True  # it only uses its own generator

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        samplewise: bool = False,
        subset: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> None:
        samples = len(tensors[0]) if subset is None else len(subset)
        assert all(len(tensor) == len(tensors[0]) and tensor.device == tensors[0].device for tensor in tensors)
        _, world_size = _rank_and_world_size()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size=}")
        if drop_last and batch_size * world_size > samples:
            raise ValueError(
                f"batch_size must be between 1 and {samples // world_size}, which is {samples} samples over "
                f"{world_size} process(es), but got {batch_size=}"
            )
        self.tensors, self.batch_size = tensors, batch_size
        self.drop_last, self.transform = drop_last, transform
        self.subset = subset
        self.samplewise = samplewise or transform is None
        self.sampler = SeededOrder(samples, shuffle, seed)  # for Lightning's call of set_epoch
        if groups is not None:
            assert subset is None and len(groups) == samples
            self.sampler = GroupedOrder(groups, batch_size * world_size, seed)
        self.batch_sampler = None  # Lightning expects it with a sampler
        self._next_batch = 0  # position of the newest iteration
        self._first_batch = 0  # start position of the next iteration

    def __len__(self) -> int:
        _, world_size = _rank_and_world_size()
        complete, rest = divmod(self.sampler.length, self.batch_size * world_size)
        return complete if self.drop_last or rest == 0 else complete + 1

    def __iter__(self) -> "Pass":
        return Pass(self)

    def state_dict(self) -> dict[str, int]:
        """The position within the epoch, which Lightning saves in checkpoints."""
        return {"next_batch": self._next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes only the next iteration begin at the position in `state`."""
        self._next_batch = self._first_batch = state["next_batch"]


class Pass:
    """An iterator over one epoch's batches; several upcoming ones can be fetched at once (`upcoming`)."""

    def __init__(self, loader: InMemoryLoader) -> None:
        # Everything is deferred until the first batch, since Lightning calls iter() before set_epoch.
        self._loader = loader
        self._order: Tensor | None = None
        self._next = 0  # batch
        self._parts: list[tuple[Tensor, ...]] = []  # prefetched batches, the next one last

    def __iter__(self) -> "Pass":
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        if self._order is None:
            self._begin()
        if not self._parts:
            self._gather()
        self._next += 1
        self._loader._next_batch = self._next
        return self._parts.pop()

    def _begin(self) -> None:
        loader = self._loader
        self._next, loader._first_batch = loader._first_batch % len(loader), 0
        self._epoch = loader.sampler.epoch
        self._rank, self._world_size = _rank_and_world_size()
        order = loader.sampler.indices()
        order = order if loader.subset is None else loader.subset[order]
        self._order = order.to(loader.tensors[0].device)
        self._size = loader.batch_size * self._world_size
        self._generator = torch.Generator(self._order.device)
        # Gathering several batches at once saves per-batch overhead.
        self._by_sample = loader.samplewise and self._world_size == 1
        self._at_once = max(1, GATHERED // loader.batch_size) if self._by_sample else 1

    def _gather(self) -> None:
        loader = self._loader
        count = min(self._at_once, len(loader) - self._next)
        if count <= 0:
            loader._next_batch = 0
            raise StopIteration
        rows = self._rows(self._next, count)
        batches = zip(*(tensor.split(self._size) for tensor in rows), strict=True) if self._by_sample else [rows]
        self._parts = list(batches)[::-1]

    def _indices(self, first: int, count: int) -> Tensor:
        assert self._order is not None
        indices = self._order[first * self._size : (first + count) * self._size]
        return indices.tensor_split(self._world_size)[self._rank] if self._world_size > 1 else indices

    def _rows(self, batch: int, count: int) -> tuple[Tensor, ...]:
        """`count` batches from `batch` on, as one; only one with several ranks or a random transform."""
        loader = self._loader
        rows = _selected(loader.tensors, self._indices(batch, count))
        if loader.transform is None:
            return rows
        if not loader.samplewise:
            # Ranks have different samples, so they must not draw the same numbers.
            seed = mixed(loader.sampler.seed, self._epoch, batch * self._world_size + self._rank)
            self._generator.manual_seed(seed)
        return loader.transform(*rows, self._generator)

    @staticmethod
    def upcoming(passes: "Sequence[Pass]", count: int, after: int = 0) -> tuple[Tensor, ...]:
        """The upcoming batches of several passes that have begun, without advancing them; see `skip`.

        Args:
            count: number of batches per pass, of `batch_size` samples each.
            after: number of batches to skip first.

        Returns:
            Tensors (count, len(passes), B, ...).

        Raises:
            RuntimeError: the batches differ in shape.
        """
        first = passes[0]
        starts = [each._next + after for each in passes]
        loaders = [each._loader for each in passes]
        alike = all(
            each._by_sample and loader.transform == loaders[0].transform and _are(loader.tensors, loaders[0].tensors)
            for each, loader in zip(passes, loaders, strict=True)
        )
        if alike:  # one gather for all
            indices = [each._indices(start, count) for each, start in zip(passes, starts, strict=True)]
            together = torch.stack(indices).view(len(passes), count, -1).transpose(0, 1)
            rows = _selected(loaders[0].tensors, together.flatten())
            if loaders[0].transform is not None:
                rows = loaders[0].transform(*rows, first._generator)
            return tuple(tensor.view(*together.shape, *tensor.shape[1:]) for tensor in rows)
        batches = [
            [each._rows(start + step, 1) for each, start in zip(passes, starts, strict=True)] for step in range(count)
        ]
        return tuple(
            torch.stack([torch.stack([batch[place] for batch in of_step]) for of_step in batches])
            for place in range(len(batches[0][0]))
        )

    def skip(self, count: int) -> None:
        """Skips `count` batches."""
        self._next += count
        self._loader._next_batch = self._next
        del self._parts[len(self._parts) - min(count, len(self._parts)) :]


def _selected(tensors: tuple[Tensor, ...], indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.index_select(0, indices) for tensor in tensors)  # far faster than tensor[indices]


def _are(tensors: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return len(tensors) == len(others) and all(one is other for one, other in zip(tensors, others, strict=True))


@functools.lru_cache(maxsize=8)
def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device)


def on_device(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Tensors on a device; on a GPU, all callers in this process share one copy of the same tensors."""
    return tuple(tensor if tensor.device == device else _copied(tensor, device) for tensor in tensors)


def seeded_generator(*entropy: int) -> torch.Generator:
    """A CPU generator whose stream depends only on the given numbers, each >= 0."""
    return torch.Generator().manual_seed(mixed(*entropy))


def mixed(*entropy: int) -> int:
    """Hashes numbers, each >= 0, to a seed, so that e.g. (seed 0, epoch 1) and (seed 1, epoch 0) are unrelated."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) % 2**63


def _rank_and_world_size() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
