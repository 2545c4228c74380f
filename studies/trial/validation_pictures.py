"""A module's pictures at each validation, which MLflow shows as a strip over the steps.

For modules whose class sets `pictures_at_validation = True`. Training goes on as if nothing was drawn: the pictures are
of a copy of the module and of batches that the validation has used anyway, and all random states are restored.
"""

from __future__ import annotations

import contextlib
import copy
import re
import uuid
import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from studies.common.errors import disk_is_full
from studies.common.text import error_text
from studies.protocol.events import Tags
from studies.trial.logged_values import Logged
from studies.trial.logger import EventLogger
from studies.trial.random_states import random_states, restore_random_states

MOST_BYTES = 64_000_000  # of the batches that are kept until the pictures are drawn
EVERY_EPOCH = 16  # so many epochs are all drawn, then about eight in each doubling
THUMBNAIL = 640  # pixels: the longer side of what MLflow's strip shows; at its own 256 texts are not legible
STRIP = "mlflow.loggedImages"  # MLflow's tag of runs that have such pictures


class ValidationPictures(Callback):
    """Draws `module.pictures(batches)` after each validation of a fit on one device; see the module's docstring."""

    def __init__(self) -> None:
        self._batches: list[Any] = []
        self._bytes = 0
        self._failed = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches, self._bytes = [], 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if dataloader_idx == 0 and self._bytes < MOST_BYTES and self._is_due(trainer):
            self._batches.append(batch)
            self._bytes += _size(batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        batches, self._batches = self._batches, []
        logger = next((item for item in trainer.loggers if isinstance(item, EventLogger)), None)
        if not batches or logger is None or logger.muted:
            return
        before = random_states()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                self._draw(trainer, pl_module, batches, logger.logged)
        except Exception as error:
            if disk_is_full(error):
                raise
            self._failed = True  # it would fail each time
            with contextlib.suppress(Exception):  # user code may have turned warnings into errors
                warnings.warn(f"pictures at validation are missing: {error_text(error)}", stacklevel=1)
        finally:
            restore_random_states(before)

    def _is_due(self, trainer: Trainer) -> bool:
        if self._failed or trainer.sanity_checking or trainer.state.fn != "fit" or trainer.world_size > 1:
            return False
        epoch = trainer.current_epoch
        return epoch < EVERY_EPOCH or epoch % (1 << (epoch.bit_length() - EVERY_EPOCH.bit_length() + 1)) == 0

    def _draw(self, trainer: Trainer, module: LightningModule, batches: list[Any], logged: Logged) -> None:
        from studies.plots import registry

        twin = copy.deepcopy(module)  # without its trainer, as Lightning copies modules
        twin.trainer = trainer
        shown = twin.pictures(copy.deepcopy(batches))  # type: ignore[operator]
        for name, arguments in shown.items():
            figure = registry.draw(name, **arguments) if isinstance(arguments, dict) else arguments
            log_step(logged, name, figure, trainer.global_step)


def log_step(logged: Logged, name: str, figure: Any, step: int) -> None:
    """Writes a picture of one step under the names by which MLflow's charts find it, with a small copy.

    The name depends on picture and step alone, so a resumed trial writes the same files again.
    """
    from studies.plots.figure import image_of

    image = image_of(figure)
    key = re.sub(r"[^\w .~-]", "~", name)
    base = f"images/{key}+step+{step}+timestamp+0+{uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {step}')}"
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    logged.image(f"{base}.png", image)
    logged.image(f"{base}+compressed.webp", small)
    if logged.channel is not None:
        logged.channel.emit(Tags({STRIP: "True"}))


def _size(batch: Any) -> int:
    """Bytes of the tensors in a batch."""
    if isinstance(batch, torch.Tensor):
        return batch.numel() * batch.element_size()
    if isinstance(batch, dict):
        return sum(map(_size, batch.values()))
    return sum(map(_size, batch)) if isinstance(batch, list | tuple) else 0
