"""Describes the data sets of a fit and a test, for MLflow: name, fingerprint, size, classes and source."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from studies.protocol.channel import Channel
from studies.protocol.events import DataSet
from studies.trial.data_fingerprint import Known, fingerprint

ARGUMENTS = 1000  # characters of a source


class DataSets(Callback):
    """Reports the data sets when a fit and a test begin. It only looks at loaders: nothing is loaded or drawn.

    Args:
        data: the experiment's section; None if the module has the loaders.
        known: what the preflight check read of data sets that have to be asked for their samples.
    """

    def __init__(self, channel: Channel, data: Mapping[str, Any] | None, known: Known) -> None:
        self._channel = channel
        self._data = data
        self._known = known

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with contextlib.suppress(Exception):  # loaders may be of any class, and a training needs no description
            self._report("train", trainer.train_dataloader, pl_module)
            self._report("val", trainer.val_dataloaders, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with contextlib.suppress(Exception):
            self._report("test", trainer.test_dataloaders, pl_module)

    def _report(self, split: str, loaders: Any, module: LightningModule) -> None:
        found = fingerprint(split, loaders, self._known)
        if found is None:
            return
        section = self._data or {}
        path = str(section.get("class_path") or f"{type(module).__module__}.{type(module).__qualname__}")
        arguments = ", ".join(f"{name}={value!r}" for name, value in (section.get("init_args") or {}).items())
        self._channel.emit(
            DataSet(
                split=split,
                name=f"{path.rpartition('.')[2]} {split}",
                digest=found.digest,
                source=f"{path}({arguments})"[:ARGUMENTS],
                samples=found.samples,
                read=found.read,
                classes=found.classes,
            )
        )
