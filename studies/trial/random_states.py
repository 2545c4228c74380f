"""Saves and restores the random states of a process and of its DataLoaders."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, IterableDataset


def is_map_style(loader: Any) -> bool:
    """Whether a loader's batches depend only on random states: a DataLoader of a map-style dataset."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def has_position(loader: Any) -> bool:
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def dataloaders_of(trainer: Trainer) -> list[Any]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if combined is not None else []


def _generators_of(loader: Any) -> list[torch.Generator]:
    """A loader's own random number generators, in a fixed order."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    holders = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(holder, "generator", None) for holder in holders]
    return list(dict.fromkeys(item for item in found if isinstance(item, torch.Generator)))


def generator_states(loaders: list[Any]) -> list[list[torch.Tensor]]:
    return [[generator.get_state() for generator in _generators_of(loader)] for loader in loaders]


def restore_generators(loaders: list[Any], states: list[list[torch.Tensor]]) -> None:
    for loader, of_one in zip(loaders, states, strict=True):
        for generator, state in zip(_generators_of(loader), of_one, strict=True):
            generator.set_state(state)


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's generators, in types that load quickly and with weights_only=True."""
    version, numbers, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, numpy_gauss = numpy_state
    return {
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, numpy_gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undoes random_states()."""
    version, numbers, gauss = states["python"]
    numbers = numbers.tolist() if isinstance(numbers, torch.Tensor) else numbers  # the type in older checkpoints
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
