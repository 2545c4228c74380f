"""Small Lightning callbacks, and one logger, that turn Lightning's hooks into events for the driver."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger

from studies.link import Link
from studies.messages import CheckpointSaved, Metrics, Report, Resources, better


class EventLogger(Logger):
    """Lightning's logger: whatever a module self.log()s becomes a Metrics event at the optimizer step done.

    Lightning calls it once per logging interval (`log_every_n_steps`) and once per validation, so the cost
    of an event, some 20 µs, is never paid per step.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.link = link
        self.trainer: Trainer | None = None  # set once the Trainer exists; Lightning's own `step` counts batches

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
        if self.link.stop_reason == "interrupted":
            return  # Lightning also logs where it stops; that would be a point no uninterrupted run has
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if values:
            epoch, epochs = self.trainer.current_epoch, self.trainer.max_epochs
            if epochs is not None and epochs > 0:
                epoch = min(epoch, epochs - 1)  # after the fit, in the test, Lightning counts one more
            self.link.say(Metrics(self.trainer.global_step, epoch, values))


class Checkpoints(Callback):
    """Keeps best.ckpt (by the metric; the newest if there is none) and last.ckpt, where a trial can go on.

    Both hold module, optimizer, scheduler, loops and the states of all random number generators. They are
    written beside their name, flushed and renamed, so a crash leaves the one before.

    Args:
        folder: where the two files go.
        metric: logged name whose best value picks best.ckpt, or None.
        direction: "maximize" or "minimize".
    """

    def __init__(self, link: Link, folder: str | Path, metric: str | None, direction: str) -> None:
        self.link = link
        self.folder = Path(folder)
        self.metric = metric
        self.direction = direction
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.best_epoch: int | None = None

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.metric is None:
            return
        value = metric_value(trainer, self.metric)
        if better(value, self.best_value, self.direction):
            self.best_value, self.best_step = value, trainer.global_step
            self.best_epoch = trainer.current_epoch
            self._save(trainer, self.best, value)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.link.stop_reason == "interrupted":
            return  # stopped inside the epoch: the end of the one before is where to go on
        self._save(trainer, self.last, None)
        if self.metric is None:
            self.best_step, self.best_epoch = trainer.global_step, trainer.current_epoch
            _replace_by_link(self.last, self.best)

    def _save(self, trainer: Trainer, path: Path, value: float | None) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # beside it: a rename across disks isn't atomic
        trainer.save_checkpoint(temporary, weights_only=False)  # optimizer and loops too
        if trainer.is_global_zero:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            self.link.say(CheckpointSaved(str(path), trainer.global_step, trainer.current_epoch, value))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_states"] = random_states()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        restore_random_states(checkpoint["random_states"])

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.best_epoch = state_dict["best_epoch"]


def metric_value(trainer: Trainer, metric: str) -> float:
    """The newest value of a logged metric.

    Raises:
        ValueError: if the module logs no such metric.
    """
    if metric not in trainer.callback_metrics:
        logged = ", ".join(sorted(trainer.callback_metrics))
        raise ValueError(f"metric must be one the module logs in validation ({logged}), but got {metric=!r}")
    return float(trainer.callback_metrics[metric])


def _replace_by_link(source: Path, target: Path) -> None:
    """Gives a file a second name, atomically, without copying it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    os.link(source, temporary)
    temporary.replace(target)


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's generators, in types that load with weights_only=True."""
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undoes random_states()."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


class Verdicts(Callback):
    """Hears the driver: asks after each value of the metric, and stops the fit where it is told to.

    Nothing raises through `fit`: a stop sets Trainer.should_stop, on all ranks.
    """

    def __init__(self, link: Link, metric: str | None, pruning: bool) -> None:
        self.link = link
        self.metric = metric
        self.pruning = pruning

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._heard(trainer):
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning also validates where it stops: the same

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
