"""A trial's environment: versions, host and device, and what is imported before it."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import platform
import socket

import torch
from lightning_fabric.utilities.cloud_io import get_filesystem
from pytorch_lightning import Trainer

from studies.protocol.events import Started
from studies.protocol.trial_spec import TrialSpec


def warm_up() -> None:
    """Does the imports and initializations that trials need, in the process from which they are forked."""
    from studies.plots import registry  # noqa: F401

    torch.save({}, io.BytesIO())
    get_filesystem("")  # local files; Lightning saves through it
    versions()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and the packages on which a trial's numbers may depend."""
    packages = ("torch", "torchvision", "pytorch-lightning")
    return {package: importlib.metadata.version(package) for package in packages} | {
        "python": platform.python_version()
    }


def started(spec: TrialSpec, trainer: Trainer) -> Started:
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    return Started(
        pid=os.getpid(),
        host=socket.gethostname(),
        device=_device_name(trainer),
        versions=versions(),
        epochs=epochs,
        steps=trainer.max_steps if trainer.max_steps > 0 else None,
    )


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
