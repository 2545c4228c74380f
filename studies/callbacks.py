"""Small Lightning callbacks, and one logger, that turn Lightning's hooks into events for the driver."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger

from studies.checkpoints import can_leave, metric_value
from studies.link import Link
from studies.messages import Metrics, Report, Resources


class EventLogger(Logger):
    """Lightning's logger: whatever a module self.log()s becomes a Metrics event at the optimizer step done.

    Lightning calls it once per logging interval (`log_every_n_steps`) and once per validation, so the cost
    of an event, some 20 µs, is never paid per step.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link
        self.trainer: Trainer | None = None  # set once the Trainer exists; Lightning's own `step` counts batches
        self.muted = False  # Lightning also logs where it is stopped: a point that no uninterrupted run has

    @property
    def name(self) -> str:
        return "events"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Parameters are in the TrialSpec; the driver has them already."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert self.trainer is not None
        if self.muted:
            return
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if values:
            epoch, epochs = self.trainer.current_epoch, self.trainer.max_epochs
            if epochs is not None and epochs > 0:
                epoch = min(epoch, epochs - 1)  # after the fit, in the test, Lightning counts one more
            self.link.say(Metrics(self.trainer.global_step, epoch, values))


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
            if isinstance(trainer.logger, EventLogger):
                trainer.logger.muted = True

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
