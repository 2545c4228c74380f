"""Loads weights from checkpoints and saves averaged weights."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.utilities.model_helpers import is_overridden

from studies.protocol.channel import Channel
from studies.protocol.checkpoint_files import check_stored
from studies.protocol.trial_spec import TrialSpec
from studies.trial.checkpoint_contents import LEFT_OUT
from studies.trial.checkpointing import Checkpoints, further_values
from studies.trial.instantiate import Parts


def keep_averaged_weights(
    spec: TrialSpec, channel: Channel, trainer: Trainer, parts: Parts, checkpoints: Checkpoints
) -> bool:
    """Saves the averaged weights that StochasticWeightAveraging left in the module, if it did, as the best ones.

    They have not been validated yet, so this validates them; that value becomes the trial's.
    """
    swa = [item for item in trainer.callbacks if isinstance(item, StochasticWeightAveraging)]  # type: ignore[attr-defined]
    if channel.stop_reason is not None or not swa or trainer.current_epoch - 1 < swa[0].swa_start:
        return False
    if spec.metric is not None and trainer.enable_validation:
        results = trainer.validate(parts.module, datamodule=parts.datamodule, verbose=False)
        values = {name: value for of_one in results for name, value in of_one.items()}
        if spec.metric in values:
            checkpoints.best_value = float(values[spec.metric])
            checkpoints.best_further = further_values(values, spec.further, parts.module)
    checkpoints.best_step, checkpoints.best_epoch = trainer.global_step, trainer.current_epoch - 1
    checkpoints.save(trainer, checkpoints.best, None, checkpoints.best_value)
    return True


def restore_weights(parts: Parts, checkpoint: Path, trainer: Trainer | None = None) -> None:
    """Loads a checkpoint's weights into a module that was just built.

    A module may create its layers in setup() or configure_model(): if the weights do not fit the module as built, these
    hooks are called as for a fit of zero epochs.
    """
    saved = read_weights(checkpoint)["state_dict"]
    if saved.keys() <= parts.module.state_dict().keys():  # a layer that is None has no keys
        with contextlib.suppress(RuntimeError):
            load_weights(parts.module, checkpoint)
            return
    if trainer is None:
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, devices=1)
    trainer.num_sanity_val_steps = 0
    trainer.fit_loop.max_epochs = 0
    trainer.fit(parts.module, datamodule=parts.datamodule)
    load_weights(parts.module, checkpoint)


def read_weights(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint of weights and numbers, which is not executed whatever it holds.

    Raises:
        ValueError: in one line: it is broken, or holds something else.
    """
    check_stored(checkpoint)
    try:
        # Memory-mapped: the optimizer states, twice as large as the weights, are not read.
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if all(isinstance(name, str) for name in saved["state_dict"].keys()):  # noqa: SIM118  a list has none
            return dict(saved)
        why = "its state_dict does not map names to values"
    except Exception as error:  # the file may hold anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise ValueError(f"{checkpoint} cannot be read as weights: {why}")


def load_weights(module: LightningModule, checkpoint: Path) -> None:
    """Loads only a checkpoint's weights into a module of the same shape."""
    saved = read_weights(checkpoint)
    if is_overridden("on_load_checkpoint", module):
        try:
            module.on_load_checkpoint(saved)
        except Exception as error:  # needs a user object that only training checkpoints have
            if LEFT_OUT not in saved:
                raise
            missing = ", ".join(saved[LEFT_OUT])
            warnings.warn(f"on_load_checkpoint has no {missing} here, so it raised {error!r}", stacklevel=2)
    module.load_state_dict(saved["state_dict"], strict=module.strict_loading)
