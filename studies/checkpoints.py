"""Where a trial can go on: best.ckpt and last.ckpt, complete, atomic, and exact to the step."""

from __future__ import annotations

import os
import random
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from studies.checkpoint_files import BEST, LAST, PREVIOUS, is_whole
from studies.link import Link
from studies.messages import CheckpointSaved, better
from studies.temporary import replace_by_link, temporary_name

SAVE_SECONDS = 60.0  # at most so much work is lost to a power cut


class Checkpoints(Callback):
    """Keeps best.ckpt (by the metric; the newest if there is none) and last.ckpt, where a trial can go on.

    last.ckpt is written at the end of each epoch and, where the loader knows its position so that going on is
    exact to the step, also where a trial is stopped, and once a minute. Both hold module, optimizer, scheduler,
    loops and the states of all random number generators. They are written beside their name, flushed and
    renamed, so a crash leaves the one before.

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
        self._best_is_due = False
        self._saved = time.monotonic()

    @property
    def best(self) -> Path:
        return self.folder / BEST

    @property
    def last(self) -> Path:
        return self.folder / LAST

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A schedule that asks for the number of steps makes Lightning set up the loader before it knows of the
        # checkpoint, and then (2.6.6) it never gives the loader its position back.
        loop = trainer.fit_loop
        if loop._combined_loader_states_to_load:
            loop._load_combined_loader_states()
            iter(loop._data_fetcher)  # type: ignore[arg-type]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.metric is None:
            return
        value = metric_value(trainer, self.metric)
        if better(value, self.best_value, self.direction):
            self.best_value, self.best_step = value, trainer.global_step
            self.best_epoch = trainer.current_epoch
            if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
                self._best_is_due = True  # the checkpoint at the end of the epoch, which is now, serves for both
            else:
                self._save(trainer, self.best, value)

    def polls(self) -> bool:
        """Whether it wants to hear of this step's end: it need not of each; see studies/fast_loop.py."""
        return time.monotonic() - self._saved > SAVE_SECONDS

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The clock is each rank's own, but all ranks must save together: they do where they stop.
        due = trainer.world_size == 1 and self.polls()
        if (due or trainer.should_stop) and can_leave(trainer, batch_idx) and _knows_its_position(trainer):
            self._save(trainer, self.last, None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # stopped inside the epoch
        if self.metric is None:
            self.best_step, self.best_epoch = trainer.global_step, trainer.current_epoch
        self._save(trainer, self.last, None, best=self.metric is None or self._best_is_due)
        self._best_is_due = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.metric is None and self.best_step is None and not trainer.should_stop:  # max_steps within an epoch
            self.best_step, self.best_epoch = trainer.global_step, trainer.current_epoch
            self._save(trainer, self.best, None)

    def _save(self, trainer: Trainer, path: Path, value: float | None, best: bool = False) -> None:
        """Writes a checkpoint; if it is the `best` one too, that is its second name."""
        temporary = temporary_name(path)  # beside it: a rename across disks isn't atomic
        try:
            trainer.save_checkpoint(temporary, weights_only=False)  # optimizer and loops too
            if trainer.is_global_zero:
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
        except OSError:  # a full disk: what was written of it would keep it full
            temporary.unlink(missing_ok=True)
            raise
        if trainer.is_global_zero:
            if path == self.last and path.exists():
                replace_by_link(
                    path, self.folder / PREVIOUS
                )  # should the disk lose the newest, the one before is there
            step, epoch = trainer.global_step, trainer.current_epoch
            if best:  # before the other, which knows of it
                replace_by_link(temporary, self.best)
                self.link.say(CheckpointSaved(str(self.best), step, epoch, self.best_value))
            temporary.replace(path)
            self._saved = time.monotonic()
            self.link.say(CheckpointSaved(str(path), step, epoch, value))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_states"] = random_states()
        # A slice of stacked weights or moments (studies/stack.py) would be saved with all of the stack.
        checkpoint["state_dict"] = _without_slices(checkpoint["state_dict"])
        for optimizer in checkpoint.get("optimizer_states", []):
            optimizer["state"] = {index: _without_slices(state) for index, state in optimizer["state"].items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        restore_random_states(checkpoint["random_states"])

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.best_epoch = state_dict["best_epoch"]


def loadable(path: str | None) -> str | None:
    """The checkpoint, or where it is broken the one before it, or None where that is too; says what is skipped.

    Empty, truncated and bit-flipped files raise all sorts of errors, or none; a whole one loads with weights_only.
    """
    for candidate in dict.fromkeys([Path(path), Path(path).with_name(PREVIOUS)]) if path else []:
        if not candidate.exists():
            continue
        try:
            if not is_whole(candidate):
                raise ValueError("its contents differ from its checksums")
            torch.load(candidate, map_location="cpu", weights_only=True)["loops"]
        except Exception as error:
            warnings.warn(f"checkpoint {candidate} is broken and skipped: {type(error).__name__}", stacklevel=2)
        else:
            return str(candidate)
    return None


def metric_value(trainer: Trainer, metric: str) -> float:
    """The newest value of a logged metric.

    Raises:
        ValueError: if the module logs no such metric.
    """
    if metric not in trainer.callback_metrics:
        logged = ", ".join(sorted(trainer.callback_metrics))
        raise ValueError(f"metric must be one the module logs in validation ({logged}), but got {metric=!r}")
    return float(trainer.callback_metrics[metric])


def can_leave(trainer: Trainer, batch_idx: int) -> bool:
    """Whether nothing more belongs to this batch: no logging, no validation, no end of the epoch.

    There a fit can be left, saved, and taken up with the next batch as if it had never been left.
    """
    every = trainer.fit_loop.total_batch_idx + 1  # batches of all epochs
    batches = every if trainer.check_val_every_n_epoch is None else batch_idx + 1
    validates = bool(trainer.val_check_batch) and batches % (trainer.val_check_batch or 1) == 0
    interval = getattr(trainer, "log_every_n_steps", 0) or 0
    logs = bool(interval) and (every % interval == 0 or trainer.global_step % interval == 0)
    accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0  # gradients are in no checkpoint
    return not (trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or validates or logs or accumulates)


def _knows_its_position(trainer: Trainer) -> bool:
    """Whether the training loader can be put back to where it was inside an epoch."""
    loader = trainer.train_dataloader
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def _without_slices(values: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value.clone() if _is_slice(value) else value for name, value in values.items()}


def _is_slice(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes


def random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's generators, in types that load fast, and with weights_only=True."""
    version, numbers, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, numpy_gauss = numpy_state
    return {
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, numpy_gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undoes random_states()."""
    version, numbers, gauss = states["python"]
    numbers = numbers.tolist() if isinstance(numbers, torch.Tensor) else numbers  # as checkpoints had them before
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
