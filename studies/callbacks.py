"""Small Lightning callbacks that turn Lightning's hooks into events for the driver, and its word into stops."""

from __future__ import annotations

import threading
from typing import Any

import psutil
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from studies.checkpoints import can_leave, metric_value
from studies.link import Link
from studies.logger import EventLogger
from studies.messages import Report, Resources


class Verdicts(Callback):
    """Hears the driver: asks after each value of the metric, and stops the fit where it is told to.

    Nothing raises through `fit`: a stop sets Trainer.should_stop, on all ranks.
    """

    def __init__(self, link: Link, metric: str | None, pruning: bool) -> None:
        self.link = link
        self.metric = metric
        self.pruning = pruning

    def polls(self) -> bool:
        """Whether it wants to hear of this step's end: it need not of each; see studies/fast_loop.py."""
        return self.link.stop_reason is not None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._heard(trainer) and can_leave(trainer, batch_idx):
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning validates and logs where it is stopped: points of no other run
            for logger in trainer.loggers:
                if isinstance(logger, EventLogger):
                    logger.muted = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._heard(trainer):
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.metric is None:
            return
        report = Report(trainer.global_step, trainer.current_epoch, metric_value(trainer, self.metric))
        if self.pruning:
            self.link.ask(report)
        else:
            self.link.say(report)
        if self._heard(trainer):
            trainer.should_stop = True

    def _heard(self, trainer: Trainer) -> bool:
        """Whether the driver said stop. Only rank 0 hears it; all must stop at the same step, for the same reason."""
        if trainer.world_size > 1:
            if not trainer.strategy.reduce_boolean_decision(self.link.stop_reason is not None, all=False):
                return False
            self.link.stop_reason = trainer.strategy.broadcast(self.link.stop_reason)
        return self.link.stop_reason is not None


class ValidationSteps(Callback):
    """Numbers validation batches on where a trial goes on: at that number Lightning logs values of each batch."""

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
    """Says every few seconds what this process uses, as MLflow's system metrics do.

    Args:
        seconds: between two samples; the first comes after one second.
    """

    def __init__(self, link: Link, seconds: float = 10.0) -> None:
        super().__init__(daemon=True, name="resources")
        self._link = link
        self._seconds = seconds
        self._ended = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        step, wait = 0, 1.0
        while not self._ended.wait(wait):
            self._link.say(Resources(step, self._sample(process)))
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
