"""Checks which classes an experiment from elsewhere may name: parts of models and data only.

An experiment in a state folder that somebody else has made is data. Without `--trust` its classes are imported from
installed packages and the current folder alone, and each has to be a model, a datamodule or a part of one before it is
instantiated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch.utils.data import Dataset, Sampler
from torchmetrics import Metric

from studies.common.class_paths import import_class

PARTS: tuple[type, ...] = (torch.nn.Module, Metric, Dataset, Sampler)  # of which constructors make something
ALLOWED = "LightningModule, LightningDataModule, nn.Module, Metric, Dataset or Sampler"
RESTORED = ("model", "data")  # a restored model needs no trainer, optimizer or schedule


def restricted(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections that a restored model is built from, their classes checked.

    Raises:
        ValueError: in one line: a class that is none of PARTS, or no class at all.
    """
    found = {name: sections[name] for name in RESTORED if sections.get(name) is not None}
    for section in found:
        for where, class_path in _named(found[section], section):
            base = {"model": LightningModule, "data": LightningDataModule}.get(where.removesuffix(".class_path"))
            try:
                cls = import_class(class_path)
            except ValueError as error:
                hint = (
                    "its own search path is not used, since you have not made its state folder: give --trust if you do"
                )
                raise ValueError(f"{error}; {hint}") from error
            if not isinstance(cls, type) or not issubclass(cls, (base,) if base else PARTS):
                wanted = base.__name__ if base else ALLOWED
                raise ValueError(f"{where}={class_path!r} is not a {wanted}: give --trust if you trust who made it")
    return {**found, "trainer": {}}


def _named(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """The class paths in a section, with their dotted names. A path without a dot is a short name of a known class."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "class_path" and isinstance(item, str) and "." in item:
                yield f"{where}.{key}", item
            else:
                yield from _named(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, where)
