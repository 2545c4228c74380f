"""Mini-batches sliced from tensors that stay in memory or on the GPU.

A DataLoader fetches, converts and collates item by item, which for small data costs many times the training
itself. Here a batch is one indexing operation.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

GATHERED = 512  # samples that are fetched, and transformed, at once where that changes nothing

# Turns the rows of a raw batch into the batch to be yielded: (*rows, generator) -> tuple of tensors.
Transform = Callable[..., tuple[Tensor, ...]]


class SeededOrder:
    """The order of samples: a function of (seed, epoch) alone, whatever was drawn or iterated before.

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


class ResidentLoader:
    """An iterable of mini-batches out of tensors that share their first dimension.

    Under torch.distributed every rank makes the same global batches of world size * batch_size samples and
    yields its own slice, so two ranks of 64 see together exactly what one process sees with 128.

    A checkpoint taken within an epoch keeps the position (`state_dict`), so a resumed epoch goes on with the
    batch after the last one that was trained on.

    Args:
        tensors: e.g. images (N, ...) and labels (N,); on any one device, where the batches will be too.
        batch_size: samples per rank in one batch, >= 1.
        shuffle: a new order in each epoch; see `SeededOrder`. Outside a Trainer call
            `loader.sampler.set_epoch(epoch)` yourself, as with torch's DistributedSampler.
        seed: decides the order and the transform's randomness, >= 0.
        drop_last: leave out the last batch of an epoch if it is smaller than the others.
        transform: called as transform(*rows, generator) with the rows of a batch and a torch.Generator on
            their device, seeded by (seed, epoch, batch index); returns the batch. None yields the rows.
        samplewise: the transform treats every sample by itself and draws nothing, so it may be given the rows
            of several batches at once, which is faster.
        subset: indices of the samples to use, int64 (M,); None uses all.

    Raises:
        ValueError: batch_size is below 1, or drop_last would leave no batch at all.
    """

    owns_randomness = True  # it draws from no generator but its own

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
        self.sampler = SeededOrder(samples, shuffle, seed)  # where Lightning looks for set_epoch
        self.batch_sampler = None  # Lightning asks for it wherever there is a sampler
        self._next_batch = 0  # how far the newest iteration has come
        self._first_batch = 0  # where the next one begins

    def __len__(self) -> int:
        _, world_size = _rank_and_world_size()
        complete, rest = divmod(self.sampler.length, self.batch_size * world_size)
        return complete if self.drop_last or rest == 0 else complete + 1

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # A generator, so nothing here runs before the first batch is wanted: Lightning calls iter() before
        # it has told the sampler the epoch.
        first, self._first_batch = self._first_batch % len(self), 0
        rank, world_size = _rank_and_world_size()
        epoch = self.sampler.epoch
        device = self.tensors[0].device
        order = self.sampler.indices()
        order = (order if self.subset is None else self.subset[order]).to(device)
        size = self.batch_size * world_size
        # What batches cost beyond their samples is paid once for several.
        step = max(1, GATHERED // self.batch_size) if self.samplewise and world_size == 1 else 1
        generator = torch.Generator(device)
        for batch in range(first, len(self), step):
            indices = order[batch * size : min(batch + step, len(self)) * size]
            if world_size > 1:
                indices = indices.tensor_split(world_size)[rank]
            rows = tuple(tensor.index_select(0, indices) for tensor in self.tensors)  # far faster than tensor[indices]
            if self.transform is not None:
                if not self.samplewise:
                    # Ranks hold different samples, so they must not draw the same numbers.
                    generator.manual_seed(mixed(self.sampler.seed, epoch, batch * world_size + rank))
                rows = self.transform(*rows, generator)
            parts = [rows] if step == 1 else zip(*(tensor.split(size) for tensor in rows), strict=True)
            for offset, part in enumerate(parts, 1):
                self._next_batch = batch + offset
                yield part
        self._next_batch = 0

    def state_dict(self) -> dict[str, int]:
        """The position within the epoch; Lightning keeps it in checkpoints."""
        return {"next_batch": self._next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next iteration, and only that one, begin at the position of `state`."""
        self._next_batch = self._first_batch = state["next_batch"]


def seeded_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU whose stream depends on all the given numbers, each >= 0, and on nothing else."""
    return torch.Generator().manual_seed(mixed(*entropy))


def mixed(*entropy: int) -> int:
    """One seed out of numbers, each >= 0, such that (seed 0, epoch 1) and (seed 1, epoch 0) have nothing in common."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) % 2**63


def _rank_and_world_size() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
