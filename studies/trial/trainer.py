"""Builds the Trainer of a trial and prepares the process for it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar

from studies.protocol.trial_spec import TrialSpec
from studies.trial.instantiate import Parts
from studies.trial.logger import EventLogger, loggers_beside

Prepare = Callable[[Trainer], None]


def build_trainer(
    spec: TrialSpec,
    parts: Parts,
    logger: EventLogger,
    first: list[Callback],
    last: list[Callback],
    prepare_trainer: Prepare | None = None,
    /,
    **limits: Any,
) -> Trainer:
    """Builds the Trainer from an experiment's trainer section, quiet, with our logger and callbacks added.

    Args:
        first, last: our callbacks before and after the user's.
        limits: Trainer arguments that replace the experiment's; `logger` replaces the user's loggers.
    """
    arguments = {**parts.trainer, **limits}
    theirs = as_list(arguments.pop("callbacks", None))
    callbacks = [*first, *theirs, *last]
    if not any(isinstance(callback, Checkpoint) for callback in callbacks):
        arguments["enable_checkpointing"] = False  # or Lightning adds its own
    elif (
        any(isinstance(callback, Checkpoint) for callback in theirs) and arguments.get("enable_checkpointing") is False
    ):
        raise ValueError("trainer.enable_checkpointing is false, but trainer.callbacks has a checkpoint callback")
    else:
        arguments["enable_checkpointing"] = True
    if not any(isinstance(callback, ProgressBar) for callback in theirs):
        arguments["enable_progress_bar"] = False
    if not any(isinstance(callback, ModelSummary) for callback in theirs):
        # A summary runs the module on its example_input_array, which may initialize lazy layers.
        has_example = getattr(parts.module, "example_input_array", None) is not None
        arguments["enable_model_summary"] = has_example and arguments.get("enable_model_summary") is not False
    arguments.setdefault("default_root_dir", spec.folder)
    loggers = loggers_beside(arguments.pop("logger", None), logger)
    trainer = Trainer(**arguments, logger=loggers, callbacks=callbacks)
    logger.trainer = trainer
    if prepare_trainer is not None:
        prepare_trainer(trainer)
    return trainer


def without_loggers(sections: dict[str, Any]) -> dict[str, Any]:
    """An experiment's sections without the user's loggers, which would create files."""
    return {**sections, "trainer": {name: value for name, value in sections["trainer"].items() if name != "logger"}}


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def forget_absent_gpus() -> None:
    """Stops torch's optimizers (2.15, CUDA build) from looking for a GPU library at each step (about 100 µs)."""
    if not torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def flush_denormals(module_class: type | None) -> None:
    """Flushes denormals (numbers below 1e-38) to 0 if the module's class itself sets `flush_denormals = True`.

    Optimizer moments of dead ReLUs' weights shrink until they are denormal and stay so, which makes a CPU up to 2.4
    times slower. Flushing changes the arithmetic, so each class must opt in; an inherited value does not count.

    Applies to this thread and to threads started from it, so call it before the process's first parallel work.
    """
    wanted = module_class is not None and vars(module_class).get("flush_denormals") is True
    torch.set_flush_denormal(wanted)


@contextlib.contextmanager
def denormals_as_before() -> Iterator[None]:
    """Restores this thread's denormal setting afterwards: with the inline executor it is the driver's thread."""
    before = sys.float_info.min / 4 == 0.0
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def seed_and_threads(spec: TrialSpec) -> None:
    if spec.threads:
        torch.set_num_threads(spec.threads)
    pl.seed_everything(spec.seed, workers=True, verbose=False)
