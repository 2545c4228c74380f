"""Learning rate schedules of an extended trial: those that ended with the training now end with the longer one.

A schedule's state includes its length, and Lightning restores that state: the schedule would end where it did before.
Instead, the length the module sets for the longer training is kept. A length fixed by the module stays as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch.optim.lr_scheduler import OneCycleLR

from studies.protocol.channel import Channel
from studies.protocol.events import Notice

LENGTHS = (
    "T_max",
    "total_steps",
    "total_iters",
    "_milestones",
    "_schedule_phases",
)  # attributes that hold a schedule's length
SAID = ("T_max", "total_steps", "total_iters")  # those that are a number of steps or epochs


class StretchesSchedules(Callback):
    """Stretches the schedules of an extended trial, and reports those that it cannot stretch."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stretched: list[LRSchedulerConfig] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here optimizers and schedules exist, but their states are not restored yet."""
        checkpoint: dict[str, Any] = trainer._checkpoint_connector._loaded_checkpoint
        saved = checkpoint.get("lr_schedulers", [])
        if len(saved) != len(trainer.lr_scheduler_configs):
            return
        for config, state in zip(trainer.lr_scheduler_configs, saved, strict=True):
            if _drop_lengths(config.scheduler, state):
                self._stretched.append(config)
            else:
                self._say_its_end(trainer, config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the longer schedule's rate for the first step, too, which precedes the schedule's next update."""
        for config in self._stretched:
            schedule: Any = config.scheduler
            same = [item for item in trainer.lr_scheduler_configs if item.scheduler.optimizer is schedule.optimizer]
            rates = _rates(schedule) if len(same) == 1 else None
            if rates is not None:
                for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
                schedule._last_lr = rates
        self._stretched = []

    def _say_its_end(self, trainer: Trainer, config: LRSchedulerConfig) -> None:
        schedule: Any = config.scheduler
        length, kind = next(((vars(schedule)[name], name) for name in SAID if name in vars(schedule)), (None, ""))
        if length is None:
            return
        needed = trainer.max_epochs if config.interval == "epoch" else trainer.estimated_stepping_batches
        steps = int(needed or 0) // config.frequency
        if steps <= length:
            return
        what = f"{type(schedule).__name__}({kind}={length})"
        training = f"the training continues to {steps} {config.interval}s"
        if isinstance(schedule, OneCycleLR):
            raise ValueError(f"{what} of the module cannot continue after its {length} {config.interval}s: {training}")
        self._channel.emit(Notice(f"{what} ends at the length that the module sets: {training}"))


def _drop_lengths(schedule: Any, state: dict[str, Any]) -> bool:
    """Removes lengths that differ from the schedule's present ones from its saved state; returns whether any did."""
    others = [name for name in LENGTHS if name in state and state[name] != vars(schedule).get(name, state[name])]
    for name in others:
        del state[name]
    inner = zip(getattr(schedule, "_schedulers", ()), state.get("_schedulers", ()), strict=False)
    return any([bool(others), *(_drop_lengths(one, of_one) for one, of_one in inner)])


def _rates(schedule: Any) -> list[Any] | None:
    """The rates of a schedule at its present step, if they are a function of the step alone."""
    if isinstance(schedule, OneCycleLR):
        return list(schedule.get_lr())
    if hasattr(schedule, "_milestones") and hasattr(schedule, "_schedulers"):  # SequentialLR
        return _rates(schedule._schedulers[bisect_right(schedule._milestones, schedule.last_epoch)])
    return list(schedule._get_closed_form_lr()) if hasattr(schedule, "_get_closed_form_lr") else None
