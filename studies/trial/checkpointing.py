"""Checkpoints to resume a trial from: best.ckpt and last.ckpt, complete, atomic, and exact to the step.

last.ckpt is a complete Lightning checkpoint, including custom user objects, and is only read from the trial's
own folder. best.ckpt holds what PyTorch can load with weights_only=True; it is the one tested, exported and published.

A trial is stopped and resumed between two epochs or between two batches. Lightning's own restart (2.6.6) then calls
hooks twice or not at all, skips a step of ReduceLROnPlateau, and draws a loader's random numbers at a different time.
So a resumed loop is made to look uninterrupted, and random states are restored to those of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader
from torchmetrics import Metric

from studies.common.atomic_files import replace_by_link, temporary_name
from studies.common.objective import PARAMETERS, better
from studies.protocol.channel import Channel
from studies.protocol.checkpoint_files import BEST, LAST, PREVIOUS, is_whole
from studies.protocol.events import CheckpointSaved
from studies.trial.checkpoint_contents import STATE, is_plain_data, readable_part, was_pickling
from studies.trial.random_states import (
    dataloaders_of,
    generator_states,
    has_position,
    is_map_style,
    random_states,
    restore_generators,
    restore_random_states,
)
from studies.trial.sample_order import SampleOrder

SAVE_SECONDS = 60.0  # the most work that a power cut can lose
BEFORE_EPOCH, AFTER_EPOCH, WITHIN_EPOCH = "before an epoch", "after an epoch", "within an epoch"
KEPT_METRICS = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")  # of Lightning's logger connector


class Checkpoints(Checkpoint):
    """Keeps best.ckpt (by the metric; the newest if there is none) and last.ckpt, from which a trial can resume.

    last.ckpt is written between epochs and, if the loader's position can be restored, also when a trial is stopped and
    once a minute. It holds module, optimizer, scheduler, loops and the states of all random number generators. Files
    are written under a temporary name, flushed and renamed, so a crash leaves the previous one intact.

    As the last callback it sees what the others have done. It is Lightning's `trainer.checkpoint_callback` if the
    user has none.

    Args:
        folder: where the two files go.
        metric: logged name whose best value selects best.ckpt, or None.
        direction: "maximize" or "minimize".
    """

    def __init__(self, channel: Channel, folder: str | Path, metric: str | None, direction: str) -> None:
        self.channel = channel
        self.folder = Path(folder)
        self.metric = metric
        self.direction = direction
        self.best_value: float | None = None
        self.best_further: dict[str, float] = {}  # the further objectives of the same weights
        self.best_step: int | None = None
        self.best_epoch: int | None = None
        self.resume_point = ResumePoint(self)
        self._best_is_due = False
        self._where: str | None = None  # what is being saved right now
        self._final = False
        self._saved = time.monotonic()

    @property
    def best(self) -> Path:
        return self.folder / BEST

    @property
    def last(self) -> Path:
        return self.folder / LAST

    @property
    def best_model_path(self) -> str:
        return str(self.best) if self.best.exists() else ""

    @property
    def last_model_path(self) -> str:
        return str(self.last) if self.last.exists() else ""

    @property
    def best_model_score(self) -> torch.Tensor | None:
        return None if self.best_value is None else torch.tensor(self.best_value)

    @property
    def dirpath(self) -> str:
        return str(self.folder)

    def measured(self, trainer: Trainer, value: float, further: dict[str, float]) -> None:
        """Handles a new value of the metric; the weights are saved if it is the best so far."""
        if not better(value, self.best_value, self.direction):
            return
        self.best_value, self.best_step, self.best_further = value, trainer.global_step, further
        self.best_epoch = trainer.current_epoch
        if trainer.is_last_batch and not _may_change_weights(trainer):
            self._best_is_due = True  # the checkpoint written before the next epoch serves as both
        else:
            self._best_is_due = False
            self.save(trainer, self.best, None, value)

    def wants_unlogged_steps(self) -> bool:
        """Whether `on_train_batch_end` must be called at this step even if it is not logged; see epoch_loop.py."""
        return time.monotonic() - self._saved > SAVE_SECONDS

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Ranks' clocks differ, but all ranks must save together: they only do so when stopped.
        if (
            trainer.world_size > 1
            or not self.wants_unlogged_steps()
            or trainer.should_stop
            or not can_leave(trainer, batch_idx)
        ):
            return
        hook = pl_module.on_train_batch_end  # runs after this one, so its effects would be lost
        idle = not is_overridden("on_train_batch_end", pl_module) or not getattr(hook, "wants_unlogged_steps", True)
        if idle and self.resume_point.can_take_up_within_epoch(trainer):
            self.save(trainer, self.last, WITHIN_EPOCH)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # max_steps or an early stop within an epoch: without a metric the last weights are kept.
        ended = self.resume_point.natural and self.channel.stop_reason is None
        if self.metric is None and ended and self.best_step != trainer.global_step:
            # The epoch that was cut short has been counted by now.
            self.best_step, self.best_epoch = trainer.global_step, max(trainer.current_epoch - 1, 0)
            self.save(trainer, self.best, None)

    def save_between_epochs(self, trainer: Trainer, where: str, final: bool = False) -> None:
        """Writes last.ckpt, and best.ckpt if it is the same.

        Args:
            where: AFTER_EPOCH, or BEFORE_EPOCH, after Lightning has reloaded the loaders if it does.
            final: the fit ended naturally: only an extension resumes from here.
        """
        if self.metric is None:
            self.best_step, self.best_epoch = trainer.global_step, max(trainer.current_epoch - 1, 0)
        self._final = final
        self.save(trainer, self.last, where, best=self.metric is None or self._best_is_due)
        self._best_is_due = self._final = False

    def save(
        self, trainer: Trainer, path: Path, where: str | None, value: float | None = None, best: bool = False
    ) -> None:
        """Writes a checkpoint; if it is also the `best` one, best.ckpt is a hard link to it or its readable part."""
        temporary = temporary_name(path)  # in the same folder: renames across disks aren't atomic
        before, self._where = random_states(), where
        try:
            with _watched(trainer) as written:
                trainer.save_checkpoint(temporary, weights_only=False)  # optimizer and loops too
            if trainer.is_global_zero:
                has_objects = not is_plain_data(written)
                if path == self.best:
                    torch.save(readable_part(written), temporary)
                _flush(temporary)
                if best and has_objects:
                    beside = temporary_name(self.best)
                    torch.save(readable_part(written), beside)
                    _flush(beside)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            if not was_pickling(error):
                raise
            raise ValueError(f"its checkpoints cannot be written: {error}") from error
        except OSError:  # a full disk: a partial file would keep it full
            temporary.unlink(missing_ok=True)
            temporary_name(self.best).unlink(missing_ok=True)
            raise
        finally:
            self._where = None
            restore_random_states(before)  # saving must not change the random numbers, even if user hooks draw some
        if trainer.is_global_zero:
            if path == self.last and path.exists():
                # Keep the previous one in case the newest is lost.
                replace_by_link(path, self.folder / PREVIOUS)
            step, epoch = trainer.global_step, trainer.current_epoch - (where in (BEFORE_EPOCH, AFTER_EPOCH))
            if best:  # before last.ckpt, which refers to it
                if has_objects:
                    beside.replace(self.best)
                else:
                    replace_by_link(temporary, self.best)
                self.channel.emit(CheckpointSaved(str(self.best), step, epoch, self.best_value))
            temporary.replace(path)
            self._saved = time.monotonic()
            if path == self.best and self.best_epoch is not None:
                epoch = self.best_epoch
            self.channel.emit(CheckpointSaved(str(path), step, epoch, value))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Saving a slice of stacked weights or moments (stacked_module.py) would write the whole stack.
        checkpoint["state_dict"] = _without_slices(checkpoint["state_dict"])
        for optimizer in checkpoint.get("optimizer_states", []):
            if "state" in optimizer:  # not Lightning's placeholder for no optimizer
                optimizer["state"] = {index: _without_slices(state) for index, state in optimizer["state"].items()}
        if self._where is None:
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for count in (progress["total"], progress["current"]):
            if self._where == BEFORE_EPOCH:
                count["ready"] = count["completed"]  # the next batch is already counted
            elif self._where == WITHIN_EPOCH and self.resume_point.is_leaving:
                count["processed"] = count["completed"]  # this one is not
        checkpoint[STATE] = {
            "where": self._where,
            "final": self._final,
            "random": random_states(),
            "reloaded": trainer.fit_loop._last_train_dl_reload_epoch,
            "generators": generator_states(dataloaders_of(trainer)),
            "epoch_began": self.resume_point.epoch_began(trainer) if self._where == WITHIN_EPOCH else None,
            "metrics": {name: _plain_metrics(getattr(trainer._logger_connector, name)) for name in KEPT_METRICS},
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.resume_point.state = checkpoint.get(STATE)

    def state_dict(self) -> dict[str, Any]:
        best = {"best_value": self.best_value, "best_step": self.best_step, "best_epoch": self.best_epoch}
        return best | ({"best_further": self.best_further} if self.best_further else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_further = state_dict.get("best_further", {})


class ResumePoint(Callback):
    """Saves a trial where it can be stopped, and resumes it there. The first callback: no hook runs before it.

    Attributes:
        state: the resume state from the checkpoint (see Checkpoints.on_save_checkpoint), until the fit has resumed.
        natural: whether the fit would have ended here anyway; set by whatever stops it.
        is_leaving: the fit was stopped within an epoch, and the current batch is its last.
        sums_over_epoch: whether the last epoch had metrics that are accumulated over the whole epoch.
        order: which samples DataLoaders drew in this epoch.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._began: dict[int, tuple[DataLoader[Any], dict[str, Any]]] = {}
        self.state: dict[str, Any] | None = None
        self.natural = True
        self.is_leaving = False
        self.sums_over_epoch = False
        self.order = SampleOrder()

    @contextlib.contextmanager
    def noting_loaders(self) -> Iterator[None]:
        """Records, during a fit, the random states with which DataLoader iterations begin, and what they draw."""
        iterate = DataLoader.__iter__
        began = self._began

        def noting(loader: DataLoader[Any]) -> Any:
            if id(loader) not in began:
                began[id(loader)] = (loader, {"random": random_states(), "generators": generator_states([loader])})
            self.order.watch(loader)
            return iterate(loader)

        DataLoader.__iter__ = noting  # type: ignore[method-assign]
        try:
            yield
        finally:
            DataLoader.__iter__ = iterate  # type: ignore[method-assign]
            began.clear()
            self.order.clear()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.state is None:
            return
        loop = trainer.fit_loop
        loop._restarting = False  # so that schedules are stepped at the epoch's end
        loop._last_train_dl_reload_epoch = self.state["reloaded"]
        if self.state["where"] != WITHIN_EPOCH:
            loop._resuming_from_checkpoint = False  # so that the loader is iterated at the usual time
            loop.epoch_loop.restarting = False
            if self.state["where"] == AFTER_EPOCH:
                self._after_the_last_hook(trainer, self._restore)
        else:
            # A schedule that asks for the number of steps makes Lightning set up the loader before it reads the
            # checkpoint, and then (2.6.6) it never restores the loader's position.
            if loop._combined_loader_states_to_load:
                loop._combined_loader._load_state_dicts(loop._combined_loader_states_to_load)  # type: ignore[union-attr]
                loop._combined_loader_states_to_load = []
                iter(loop._data_fetcher)  # type: ignore[arg-type]
            self._after_the_last_hook(trainer, self._take_up_within_epoch)

    def _after_the_last_hook(self, trainer: Trainer, work: Callable[[Trainer], None]) -> None:
        """Runs `work` after all on_train_start hooks (the strategy's is last), since they may draw random numbers."""
        strategy: Any = trainer.strategy
        hook = strategy.on_train_start

        def last() -> None:
            del strategy.on_train_start
            hook()
            work(trainer)

        strategy.on_train_start = last

    def _take_up_within_epoch(self, trainer: Trainer) -> None:
        assert self.state is not None
        began, loop = self.state["epoch_began"], trainer.fit_loop
        if began is not None:  # the loader has no position: redraw the batches already consumed
            loaders = dataloaders_of(trainer)
            self._began.clear()
            self.order.clear()
            restore_generators(loaders, began["generators"])
            restore_random_states(began["random"])
            fetcher: Any = loop._data_fetcher
            iter(fetcher)
            for _ in range(loop.epoch_loop.batch_progress.current.ready):
                next(fetcher)
            fetcher.fetched = 0  # Lightning adds the number of consumed batches
        else:
            self.order.miss()  # the samples before this position
        self._restore(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.state is not None:
            self._restore(trainer)
        elif trainer.current_epoch > 0:
            self._checkpoints.save_between_epochs(trainer, BEFORE_EPOCH)
        if trainer.current_epoch > 0:  # the first epoch's loader is already iterating, later ones start after this hook
            self._began.clear()
            self.order.clear()

    def _restore(self, trainer: Trainer) -> None:
        assert self.state is not None
        for name, values in self.state["metrics"].items():
            device = trainer.strategy.root_device
            getattr(trainer._logger_connector, name).update({key: value.to(device) for key, value in values.items()})
        restore_generators(dataloaders_of(trainer), self.state["generators"])
        restore_random_states(self.state["random"])
        self.state = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sums_over_epoch = _sums_over_epoch(trainer)
        if self.is_leaving and self.can_take_up_within_epoch(trainer):
            self._checkpoints.save(trainer, self._checkpoints.last, WITHIN_EPOCH)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_last_batch and not self.is_leaving:
            self._checkpoints.save_between_epochs(trainer, AFTER_EPOCH, final=self.natural)

    def can_take_up_within_epoch(self, trainer: Trainer) -> bool:
        """Whether the training loaders can be restored to their current position."""
        loaders = dataloaders_of(trainer)
        noted = all(map(has_position, loaders)) or all(id(loader) in self._began for loader in loaders)
        return noted and knows_its_position(trainer) and not _sums_over_epoch(trainer)

    def epoch_began(self, trainer: Trainer) -> dict[str, Any] | None:
        """Random states from which to redraw the epoch's batches; None if the loaders restore their own position."""
        loaders = dataloaders_of(trainer)
        if all(map(has_position, loaders)):
            return None
        noted = [states for loader, states in self._began.values() if any(loader is item for item in loaders)]
        of_each = [self._began[id(loader)][1]["generators"][0] for loader in loaders]
        return {"random": noted[0]["random"], "generators": of_each}


class Found(NamedTuple):
    """Where a trial resumes from.

    Attributes:
        path: its checkpoint, or None to start afresh.
        weights_only: whether PyTorch can load it that way; if not, it holds custom user objects.
        notices: lines for the user.
    """

    path: str | None
    weights_only: bool = True
    notices: tuple[str, ...] = ()


def loadable(path: str | None, extends: bool = False, trusted: bool = True) -> Found:
    """Finds the checkpoint; if it is broken, the previous one; if that is broken too, none.

    Empty, truncated and bit-flipped files raise various errors, or none.

    Args:
        extends: the trial has ended and is to be extended. Otherwise, a trial that ended but did not report it repeats
            its last epoch, so that its end is reported.
        trusted: objects of user classes may be unpickled.

    Raises:
        ValueError: it has such objects, and they may not.
    """
    notices: list[str] = []
    for candidate in dict.fromkeys([Path(path), Path(path).with_name(PREVIOUS)]) if path else []:
        if not candidate.exists():
            continue
        try:
            if not is_whole(candidate):
                raise ValueError("its contents differ from its checksums")
            checkpoint, weights_only = _read(candidate, trusted)
            checkpoint["loops"]
        except Untrusted:
            raise
        except Exception as error:
            notices.append(f"checkpoint {candidate.name} is broken and skipped: {type(error).__name__}")
            continue
        if checkpoint.get(STATE, {}).get("final") and not extends:
            continue
        return Found(str(candidate), weights_only, tuple(notices))
    if notices:
        notices.append("there is no intact checkpoint: the trial starts over")
    return Found(None, True, tuple(notices))


class Untrusted(ValueError):
    """A checkpoint that only unpickling can read, in a state folder that came from elsewhere."""


def _read(path: Path, trusted: bool) -> tuple[dict[str, Any], bool]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True), True
    except Exception as error:
        if not trusted:
            raise Untrusted(
                f"{path} holds more than weights and numbers, and reading it may run code: this state folder was not "
                "made by you on this machine, so give --trust if you trust who made it"
            ) from error
        return torch.load(path, map_location="cpu", weights_only=False), False


@contextlib.contextmanager
def _watched(trainer: Trainer) -> Iterator[dict[str, Any]]:
    """Captures what Trainer.save_checkpoint writes within the block."""
    strategy: Any = trainer.strategy
    save = strategy.save_checkpoint
    written: dict[str, Any] = {}

    def watched(checkpoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        written.update(checkpoint)
        save(checkpoint, *args, **kwargs)

    strategy.save_checkpoint = watched
    try:
        yield written
    finally:
        del strategy.save_checkpoint


def _flush(path: Path) -> None:
    if path.is_file():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _may_change_weights(trainer: Trainer) -> bool:
    """Whether user code runs between a validation and the next epoch: then weights must be saved at once."""
    hooks = ("on_validation_end", "on_train_epoch_end", "on_train_end")
    module = trainer.lightning_module
    if any(is_overridden(hook, module) for hook in hooks):
        return True
    theirs = [item for item in trainer.callbacks if type(item).__module__.partition(".")[0] not in _KNOWN]  # type: ignore[attr-defined]
    return any(is_overridden(hook, item, Callback) for hook in hooks for item in theirs)


_KNOWN = ("pytorch_lightning", "lightning", "studies")


def metric_value(trainer: Trainer, metric: str) -> float:
    """The newest value of a logged metric.

    Raises:
        ValueError: the module logs no such metric.
    """
    if metric not in trainer.callback_metrics:
        logged = ", ".join(sorted(trainer.callback_metrics))
        raise ValueError(f"metric must be one the module logs ({logged}), but got {metric=!r}")
    return float(trainer.callback_metrics[metric])


def further_values(logged: Mapping[str, Any], names: Iterable[str], module: LightningModule) -> dict[str, float]:
    """The newest values of further objectives; NaN for one that has not been logged.

    The number of trainable parameters needs no logging; a metric of that name that the module logs has precedence.
    """
    values = {}
    for name in names:
        if name in logged or name != PARAMETERS:
            values[name] = float(logged.get(name, math.nan))
        else:
            values[name] = float(sum(part.numel() for part in module.parameters() if part.requires_grad))
    return values


def can_leave(trainer: Trainer, batch_idx: int) -> bool:
    """Whether nothing else happens after this batch: no logging, no validation, no end of the epoch.

    The fit can be stopped and saved there, and resumed with the next batch as if uninterrupted.
    """
    every = trainer.fit_loop.total_batch_idx + 1  # counted over all epochs
    batches = every if trainer.check_val_every_n_epoch is None else batch_idx + 1
    validates = bool(trainer.val_check_batch) and batches % (trainer.val_check_batch or 1) == 0
    interval = getattr(trainer, "log_every_n_steps", 0) or 0
    logs = bool(interval) and (every % interval == 0 or trainer.global_step % interval == 0)
    accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0  # checkpoints hold no gradients
    return not (trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or validates or logs or accumulates)


def knows_its_position(trainer: Trainer) -> bool:
    """Whether training can resume within an epoch: loaders restore their position, or batches can be redrawn."""
    loaders = dataloaders_of(trainer)
    if all(map(has_position, loaders)):
        return True
    return all(map(is_map_style, loaders)) and "dataloader_iter" not in _parameters_of_step(trainer)


def _sums_over_epoch(trainer: Trainer) -> bool:
    """Whether self.log(on_epoch=True) or torchmetrics accumulate over the epoch, which no checkpoint contains."""
    logged: Any = trainer.fit_loop.epoch_loop._results
    if any(result.meta.on_epoch for result in logged.values()):
        return True
    metrics = (item for item in trainer.lightning_module.modules() if isinstance(item, Metric))
    return any(metric.update_called for metric in metrics)


def _parameters_of_step(trainer: Trainer) -> list[str]:
    return list(inspect.signature(trainer.lightning_module.training_step).parameters)


def _plain_metrics(metrics: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in metrics.items() if isinstance(value, torch.Tensor)}


def _without_slices(values: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value.clone() if _is_slice(value) else value for name, value in values.items()}


def _is_slice(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes
