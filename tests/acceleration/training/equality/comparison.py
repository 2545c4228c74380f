"""Fits by plain Lightning and by the accelerated loop, and reports where they differ."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from equality.data import Data
from equality.models import Net
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from studies.acceleration.training.epoch_loop import PlainStep, speed_up

SKIPPED = ("on_save_checkpoint", "on_load_checkpoint")
HOOKS = [name for name in dir(Callback) if name.startswith("on_") and name not in SKIPPED]


@dataclass
class Case:
    """What is fitted. Each fit creates everything from scratch.

    Attributes:
        module: makes the module.
        data: makes the datamodule.
        options: of the Trainer.
        callbacks: makes the Trainer's callbacks.
        is_watched: a callback notes all hooks. Without it nobody may be listening, and the loop goes its short way.
    """

    module: Callable[[], Net] = Net
    data: Callable[[], LightningDataModule] = Data
    options: dict[str, Any] = field(default_factory=dict)
    callbacks: Callable[[], Sequence[Callback]] = list
    is_watched: bool = False


class Recorder(Logger):
    """Records logged values and steps."""

    name, version = "recorder", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows += [(name, step, repr(value)) for name, value in metrics.items()]


class Spy(Callback):
    """Records all hooks and the trainer's state there."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def note(self, hook: str, trainer: Trainer, module: Any, arguments: Sequence[Any]) -> None:
        loop = trainer.fit_loop.epoch_loop
        metrics = [trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics]
        self.notes.append(
            (
                hook,
                (trainer.global_step, loop.batch_idx, loop.total_batch_idx, trainer.current_epoch),
                (vars(loop.batch_progress.current).copy(), loop._batches_that_stepped, trainer.is_last_batch),
                (module._current_fx_name, torch.is_grad_enabled(), module.training),
                [[(name, repr(float(value))) for name, value in found.items()] for found in metrics],
                list(map(summary, arguments)),
            )
        )


def _noting(hook: str) -> Callable[..., None]:
    return lambda self, trainer, module, *arguments: self.note(hook, trainer, module, arguments)


for _hook in HOOKS:
    setattr(Spy, _hook, _noting(_hook))


def summary(value: Any) -> Any:
    """The comparable results of a fit."""
    if isinstance(value, Tensor):
        return (str(value.dtype), list(value.shape), value.requires_grad, value.detach().tolist())
    if isinstance(value, dict):
        return {repr(key) if isinstance(key, Tensor) else key: summary(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(summary, value)]
    return value if isinstance(value, int | float | str | None) else type(value).__name__


@dataclass
class Outcome:
    """The results of a fit."""

    weights: dict[str, Any]
    optimizers: list[Any]
    rows: list[Any]
    notes: list[Any]
    metrics: list[Any]
    loops: Any
    random_states: list[Any]
    error: str | None
    warnings: list[str]
    plain_steps: int = field(default=0, compare=False)


def outcome(case: Case, folder: Path, fast: bool) -> Outcome:
    pl.seed_everything(3, verbose=False)
    module, data, spy, recorder = case.module(), case.data(), Spy(), Recorder()
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "log_every_n_steps": 4,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": recorder,
            "default_root_dir": folder,
            "callbacks": [*case.callbacks(), *([spy] if case.is_watched else [])],
            **case.options,
        }
    )
    if fast:
        speed_up(trainer)
    taken, take = [], PlainStep.__call__

    def counting(step: PlainStep, batch: Any) -> None:
        taken.append(step)
        take(step, batch)

    error = None
    PlainStep.__call__ = counting  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            trainer.fit(module, datamodule=data)
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
    finally:
        PlainStep.__call__ = take  # type: ignore[method-assign]
    metrics = [trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics]
    return Outcome(
        weights=summary(module.state_dict()),
        optimizers=[summary(optimizer.state_dict()) for optimizer in trainer.optimizers],
        rows=recorder.rows,
        notes=[spy.notes, module.notes, [getattr(callback, "notes", None) for callback in trainer.callbacks]],
        metrics=[{name: repr(float(value)) for name, value in found.items()} for found in metrics],
        loops=trainer.fit_loop.state_dict(),
        random_states=[torch.get_rng_state().tolist(), random.getstate()],
        error=error,
        warnings=sorted({str(warning.message) for warning in warned if "torch" not in str(warning.filename)}),
        plain_steps=len(taken),
    )


def compare(case: Case, folder: Path) -> Outcome:
    """Asserts that both fits have equal results; returns the accelerated one."""
    plain, fast = outcome(case, folder, False), outcome(case, folder, True)
    assert plain.error == fast.error, f"{plain.error} and {fast.error}"
    for name in ("notes", "rows"):
        first = _first_difference(getattr(plain, name), getattr(fast, name))
        assert first is None, f"{name} part at {first}"
    for name in ("weights", "optimizers", "metrics", "loops", "random_states", "warnings"):
        first = _first_difference(getattr(plain, name), getattr(fast, name))
        assert first is None, f"{name} part at {first}"
    return fast


def _first_difference(one: Any, other: Any, place: str = "") -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            return f"{place}: keys {list(one)} and {list(other)}"
        items = [(f"{place}.{key}", one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        items = [(f"{place}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=False))]
        items.append((f"{place}.length", len(one), len(other)))
    elif one == other or (one != one and other != other):
        return None
    else:
        return f"{place}: {one!r} and {other!r}"
    return next((found for where, a, b in items if (found := _first_difference(a, b, where))), None)
