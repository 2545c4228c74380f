"""A trial's environment: versions, host and device, and what is imported before it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import os
import platform
import socket
import sys

import torch
from lightning_fabric.utilities.cloud_io import get_filesystem
from pytorch_lightning import Trainer

from studies.protocol.events import Started


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


def started(trainer: Trainer) -> Started:
    """The first event of a trial that a Trainer fits."""
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    steps = trainer.max_steps if trainer.max_steps > 0 else None
    packed = getattr(trainer.fit_loop.epoch_loop, "batched_step", None) is not None
    return started_on(trainer.strategy.root_device, epochs, steps, packed)


def started_on(
    device: torch.device, epochs: int | None = None, steps: int | None = None, packed: bool = False
) -> Started:
    """The first event of a trial on a device."""
    return Started(
        os.getpid(),
        socket.gethostname(),
        _device_name(device),
        versions(),
        epochs,
        steps,
        settings=_settings(device) | {"trained together with others (--pack)": "yes" if packed else "no"},
    )


def _settings(device: torch.device) -> dict[str, str]:
    """What a training's numbers may depend on, beside its code, its data and the packages."""
    found = {
        "device": device.type,
        "threads": str(torch.get_num_threads()),
        "CPU": _cpu_name(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "float32 matrix products": torch.get_float32_matmul_precision(),
        "denormals are flushed": str(sys.float_info.min / 4 == 0.0),
    }
    if device.type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(device)
        found["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        found["cuDNN benchmark"] = str(torch.backends.cudnn.benchmark)
    return found


@functools.cache
def _cpu_name() -> str:
    """As Linux calls it; elsewhere the architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
