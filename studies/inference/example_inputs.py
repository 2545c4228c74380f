"""Example inputs for exporting a module, from the validation set, and which dimensions are variable."""

from __future__ import annotations

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor

ROWS = 2  # in an example: torch.export treats a size of 1 as constant


def validation_inputs(data: LightningDataModule | LightningModule | None) -> Tensor:
    """The first validation batch's inputs (B, ...), on the CPU; sets a datamodule up.

    Args:
        data: the datamodule, or a module with its own loaders.

    Raises:
        ValueError: in one line: batches are not (inputs, targets), or inputs are not a tensor.
    """
    if data is None:
        raise ValueError("there is no datamodule to take an example input from")
    if isinstance(data, LightningDataModule):
        data.prepare_data()
        data.setup("fit")
    loaders = data.val_dataloader()
    if isinstance(loaders, list | tuple | dict):  # several loaders, or batches
        first = next(iter(loaders.values() if isinstance(loaders, dict) else loaders))
        loaders = [first] if isinstance(first, Tensor | tuple | list | dict) else first
    batch = next(iter(loaders))
    inputs = batch[0] if isinstance(batch, tuple | list) else batch
    if not isinstance(inputs, Tensor):
        raise ValueError(f"{type(data).__name__}'s inputs must be one tensor, but got {type(inputs).__name__}")
    return inputs.cpu()


def example_of(inputs: Tensor) -> Tensor:
    """Two rows of inputs (B, ...), B >= 1; a single row is repeated."""
    return inputs[torch.arange(ROWS) % len(inputs)]


def variable_dimensions(example: Tensor) -> dict[int, str]:
    """The variable dimensions of a module's inputs, with their names.

    Always the batch dimension; also the length of id sequences, i.e. integers (B, S).
    """
    names = {0: "batch"}
    if example.dim() == 2 and not (example.is_floating_point() or example.is_complex()):
        names[1] = "length"
    return names
