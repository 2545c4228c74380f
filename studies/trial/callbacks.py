"""Small callbacks that turn Lightning's hooks into events for the driver, and the driver's verdicts into stops."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import psutil
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from studies.protocol.channel import Channel
from studies.protocol.events import Report, Resources
from studies.trial.checkpointing import Checkpoints, can_leave, further_values, metric_value
from studies.trial.logger import EventLogger


class Verdicts(Checkpoint):
    """Reports each value of the metric, and of further ones then, asks for a verdict, and stops the fit when told to.

    The metric may be logged in validation or, once per epoch, in training. As a Lightning `Checkpoint` it runs after
    the module's own hooks and sees what they log. Nothing raises through `fit`: a stop sets Trainer.should_stop, on
    all ranks.
    """

    def __init__(
        self,
        channel: Channel,
        metric: str | None,
        pruning: bool,
        checkpoints: Checkpoints,
        further: Iterable[str] = (),
    ) -> None:
        self.channel = channel
        self.metric = metric
        self.further = tuple(further)
        self.pruning = pruning
        self.checkpoints = checkpoints
        self._logged_by: str | None = None  # "validation" or "training", once known
        self._known: set[str] = set()  # names of metrics logged before the first validation
        self._stopped = False

    def wants_unlogged_steps(self) -> bool:
        """Whether `on_train_batch_end` must be called at this step even if it is not logged; see epoch_loop.py."""
        return self.channel.stop_reason is not None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._heard(trainer) and can_leave(trainer, batch_idx):
            self._stop(trainer)
            self.checkpoints.resume_point.is_leaving = True
            trainer.limit_val_batches = 0  # Lightning validates when stopped: an undisturbed run has no such points
            for logger in trainer.loggers:
                if isinstance(logger, EventLogger):
                    logger.muted = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._logged_by is None and self.metric is not None and _is_fit(trainer):
            self._known = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.metric is None or not _is_fit(trainer):
            return
        if self._logged_by is None:
            new = self.metric in trainer.callback_metrics and self.metric not in self._known
            self._logged_by = "validation" if new else "training"
        if self._logged_by == "validation":
            self._report(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.metric is not None and trainer.is_last_batch:
            if self._logged_by is None and self.metric in trainer.callback_metrics:
                self._logged_by = "training"  # no validation could have logged it
            if self._logged_by == "training":
                self._report(trainer)
        if self._heard(trainer):
            self._stop(trainer)

    def _report(self, trainer: Trainer) -> None:
        assert self.metric is not None
        value = metric_value(trainer, self.metric)
        further = further_values(trainer.callback_metrics, self.further, trainer.lightning_module)
        report = Report(trainer.global_step, trainer.current_epoch, value, further)
        if self.pruning:
            self.channel.ask(report)
        else:
            self.channel.emit(report)
        self.checkpoints.measured(trainer, value, further)
        # An interrupted fit stops between two batches or epochs, where it can be resumed; a pruned one stops at once.
        if self._heard(trainer) and (trainer.is_last_batch or self.channel.stop_reason != "interrupted"):
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if not self._stopped:
            self.checkpoints.resume_point.natural = trainer.should_stop or _is_over(trainer)
        self._stopped = trainer.should_stop = True

    def _heard(self, trainer: Trainer) -> bool:
        """Whether the driver requested a stop. Only rank 0 receives it; all ranks must stop at the same step."""
        if trainer.world_size > 1:
            if not trainer.strategy.reduce_boolean_decision(self.channel.stop_reason is not None, all=False):
                return False
            self.channel.stop_reason = trainer.strategy.broadcast(self.channel.stop_reason)
        return self.channel.stop_reason is not None

    def state_dict(self) -> dict[str, Any]:
        return {"logged_by": self._logged_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._logged_by = state_dict["logged_by"]


def _is_fit(trainer: Trainer) -> bool:
    return not trainer.sanity_checking and trainer.state.fn == "fit"


def _is_over(trainer: Trainer) -> bool:
    """Whether the fit would end with this epoch anyway."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (epochs not in (None, -1) and trainer.current_epoch + 1 >= epochs) or (  # type: ignore[operator]
        steps != -1 and trainer.global_step >= steps
    )


class ValidationSteps(Callback):
    """Continues the numbering of validation batches on resume: Lightning uses it as the step of per-batch values."""

    def __init__(self) -> None:
        self._done: dict[int, int] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["validation_steps"] = dict(trainer.fit_loop.epoch_loop.val_loop._seen_batches_per_dataloader)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._done = checkpoint.get("validation_steps")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._done is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.fit_loop.epoch_loop.val_loop._seen_batches_per_dataloader.update(self._done)  # set up just now
            self._done = None


class ResourceSampler(threading.Thread):
    """Reports this process's resource usage every few seconds, like MLflow's system metrics.

    Args:
        seconds: between two samples; the first comes after one second.
    """

    def __init__(self, channel: Channel, seconds: float = 10.0) -> None:
        super().__init__(daemon=True, name="resources")
        self._channel = channel
        self._seconds = seconds
        self._ended = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        step, wait = 0, 1.0
        while not self._ended.wait(wait):
            self._channel.emit(Resources(step, self._sample(process)))
            step, wait = step + 1, self._seconds

    def stop(self) -> None:
        self._ended.set()

    @staticmethod
    def _sample(process: psutil.Process) -> dict[str, float]:
        values = {
            "system/process_cpu_utilization_percentage": process.cpu_percent(),
            "system/process_memory_megabytes": process.memory_info().rss / 1e6,
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
        }
        if torch.cuda.is_initialized():
            values["system/gpu_memory_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
        return values
