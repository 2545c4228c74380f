"""Runs one TrialSpec, and is the only file that builds a Trainer.

The life of a trial: spec -> seed -> datamodule -> module (data-derived sizes linked in) -> Trainer -> fit with
validation -> best checkpoint -> pictures -> test, if requested -> finished. Training, studies, replays and tests of
a champion all go through `run`. By hand, or under torchrun:

    python -m studies.trial mlruns/trials/RUN/spec.json
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden

from studies.common import lightning_alias, search_path
from studies.common.class_paths import class_named
from studies.common.errors import DISK_FULL, disk_is_full
from studies.common.out_of_memory import explain, is_out_of_memory
from studies.common.text import TRACEBACK_LIMIT, clean_text, error_text
from studies.protocol.channel import DRIVER_FD, Channel, end_in_time
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Failed, Finished, Notice, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial.callbacks import ResourceSampler, Verdicts
from studies.trial.checkpointing import Checkpoints, loadable
from studies.trial.function import run_function
from studies.trial.instantiate import build
from studies.trial.logger import EventLogger, stand_ins
from studies.trial.observers import observers
from studies.trial.pictures import draw_pictures, print_traceback
from studies.trial.schedules import StretchesSchedules
from studies.trial.surroundings import started
from studies.trial.trainer import (
    Prepare,
    build_trainer,
    denormals_as_before,
    flush_denormals,
    forget_absent_gpus,
    seed_and_threads,
    without_loggers,
)
from studies.trial.weights import keep_averaged_weights, load_weights, restore_weights

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # keep its tips out of the trials' logs


def run(spec: TrialSpec, channel: Channel, prepare_trainer: Prepare | None = None) -> int:
    """Runs one trial and reports everything as events, the last of which is finished, stopped or failed.

    Args:
        prepare_trainer: called with the Trainer before its fit, for example by studies/acceleration to make it faster.

    Returns:
        The exit status of its process: 0, or DISK_FULL if the ending could not be written: then the trial has not
        ended, and resumes from its last checkpoint once there is space.
    """
    resources = ResourceSampler(channel)
    resources.start()
    ending: Event
    try:
        with denormals_as_before():
            ending = _run(spec, channel, prepare_trainer)
    except BaseException as error:  # Lightning turns signals into SystemExit: always report an ending
        print_traceback()
        if disk_is_full(error):
            return DISK_FULL
        text = error_text(error)
        if is_out_of_memory(error):
            used = psutil.Process().memory_info().rss / 1e6
            text = f"{explain(spec.experiment, used)} ({text})"
        ending = Failed(text, clean_text(traceback.format_exc(), TRACEBACK_LIMIT))
    resources.stop()
    resources.join()  # the ending must be the last event
    try:
        channel.emit(ending, durable=True)
    except OSError as error:
        if disk_is_full(error):
            return DISK_FULL
        raise
    return 0


def _run(spec: TrialSpec, channel: Channel, prepare_trainer: Prepare | None) -> Event:
    if "function" in spec.experiment:
        return run_function(spec, channel)
    search_path.use(spec.search_path)
    flush_denormals(class_named(spec.experiment["model"]))
    forget_absent_gpus()
    seed_and_threads(spec)
    parts = build(spec.experiment, spec.seed)
    module, datamodule = parts.module, parts.datamodule
    logger = EventLogger(channel, spec.folder, spec.run_id)
    checkpoints = Checkpoints(channel, Path(spec.folder) / "checkpoints", spec.metric, spec.direction)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    verdicts = Verdicts(channel, spec.metric, spec.pruning, checkpoints, spec.further)
    # The order matters: trainer.checkpoint_callback is the first Checkpoint.
    first: list[Callback] = [checkpoints.resume_point, *observers(spec, channel, module, checkpoints)]
    if spec.extends:
        first.append(StretchesSchedules(channel))
    trainer = build_trainer(spec, parts, logger, first, [checkpoints, verdicts], prepare_trainer)
    found = loadable(spec.resume, spec.extends, spec.trusted)
    channel.emit(started(trainer))
    for notice in found.notices:
        channel.emit(Notice(notice))

    began = time.perf_counter()
    with checkpoints.resume_point.noting_loaders():
        # From the trial's own folder, where only its own process writes, so unpickling user objects is safe.
        trainer.fit(module, datamodule=datamodule, ckpt_path=found.path, weights_only=found.weights_only)
    summary: dict[str, float] = {"fit_seconds": time.perf_counter() - began}
    averaged = keep_averaged_weights(spec, channel, trainer, parts, checkpoints)
    if checkpoints.best_value is not None:
        best = {str(spec.metric): checkpoints.best_value, **checkpoints.best_further}
        summary |= {f"best/{name}": value for name, value in best.items() if value == value}
    if checkpoints.best_step is not None and checkpoints.best_epoch is not None:
        summary |= {"best_step": checkpoints.best_step, "best_epoch": checkpoints.best_epoch}
    if channel.stop_reason == "interrupted":
        return Stopped(channel.stop_reason, summary)

    if checkpoints.best.exists() and not averaged:
        load_weights(module, checkpoints.best)
    if trainer.is_global_zero:
        draw_pictures(spec, channel, module, datamodule)
    if channel.stop_reason is not None:
        return Stopped(channel.stop_reason, summary)
    if spec.test and why_no_test(module, datamodule) is None:
        for results in trainer.test(module, datamodule=datamodule, verbose=False):
            summary |= {name: float(value) for name, value in results.items()}
    return Finished(summary, checkpoints.best_value, checkpoints.best_further) if averaged else Finished(summary)


def why_no_test(module: LightningModule, datamodule: LightningDataModule | None) -> str | None:
    """Why a module cannot be tested; None if it can."""
    if not is_overridden("test_step", module):
        return f"{type(module).__name__} has no test_step"
    loaders = [module] if datamodule is None else [module, datamodule]
    if not any(
        is_overridden("test_dataloader", item, LightningModule if item is module else LightningDataModule)
        for item in loaders
    ):
        return "there is no test_dataloader"
    return None


def prepare_trained(spec: TrialSpec, folder: Path) -> tuple[LightningModule, LightningDataModule | None, Trainer]:
    """The module with the best weights of an ended trial, its datamodule, and a Trainer for testing or prediction.

    Args:
        folder: the ended trial's; `spec.folder` is where this Trainer may write.
    """
    search_path.use(spec.search_path)
    seed_and_threads(spec)
    parts = build(without_loggers(spec.experiment), spec.seed)
    # User code that logs in a test or a prediction finds the usual logger.
    logger = EventLogger(None, spec.folder, spec.run_id)
    others = stand_ins(spec.experiment["trainer"].get("logger"), spec.folder)
    limits = {"devices": 1, "strategy": "auto", "num_nodes": 1, "callbacks": [], "logger": others}
    trainer = build_trainer(spec, parts, logger, [], [], **limits)
    restore_weights(parts, folder / "checkpoints" / "best.ckpt", trainer)
    return parts.module, parts.datamodule, trainer


def main() -> int:
    """Runs the spec named on the command line; events go to its folder, and to the driver if there is one."""
    lightning_alias.install()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    spec = TrialSpec.load(sys.argv[1])
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) > 0:
        return run(spec, Channel(None))
    driver = os.environ.pop(DRIVER_FD, None)
    connection = Connection(int(driver)) if driver else None
    status = run(spec, Channel(EventWriter(Path(spec.folder) / NAME), connection))
    if connection is not None:
        end_in_time()
    return status
