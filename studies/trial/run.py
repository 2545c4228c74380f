"""Runs one TrialSpec, and is the only file that builds a Trainer.

The life of a trial: spec -> seed -> datamodule -> module (data-derived sizes linked in) -> Trainer -> fit with
validation -> best checkpoint -> pictures -> test, if asked -> finished. Training, studies, replays and tests of
a champion all come through `run`. By hand, or under torchrun:

    python -m studies.trial mlruns/trials/RUN/spec.json
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import itertools
import logging
import math
import os
import platform
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.cloud_io import get_filesystem
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelSummary, ProgressBar, StochasticWeightAveraging
from pytorch_lightning.utilities.model_helpers import is_overridden

from studies.common import lightning_alias, search_path
from studies.common.class_paths import class_named
from studies.common.errors import DISK_FULL, disk_is_full
from studies.common.out_of_memory import explain, is_out_of_memory
from studies.common.text import TRACEBACK_LIMIT, clean_text, error_text
from studies.protocol.channel import DRIVER_FD, Link, end_in_time
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Artifact, Event, Failed, Finished, Metrics, Notice, Started, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.trial.callbacks import ResourceSampler, ValidationSteps, Verdicts
from studies.trial.checkpointing import LEFT_OUT, Checkpoints, loadable
from studies.trial.instantiate import Parts, build
from studies.trial.logger import EventLogger, loggers_beside, stand_ins
from studies.trial.schedules import StretchesSchedules

Prepare = Callable[[Trainer], None]

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no tips in every trial's log


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
    """The Trainer of an experiment's trainer section, quiet, with our logger and callbacks beside the user's.

    Args:
        first, last: our callbacks before and after the user's.
        limits: Trainer arguments that replace the experiment's; `logger` are those beside ours.
    """
    arguments = {**parts.trainer, **limits}
    theirs = as_list(arguments.pop("callbacks", None))
    callbacks = [*first, *theirs, *last]
    if not any(isinstance(callback, Checkpoint) for callback in callbacks):
        arguments["enable_checkpointing"] = False  # Lightning would add one of its own
    elif (
        any(isinstance(callback, Checkpoint) for callback in theirs) and arguments.get("enable_checkpointing") is False
    ):
        raise ValueError("trainer.enable_checkpointing is false, but trainer.callbacks has a checkpoint callback")
    else:
        arguments["enable_checkpointing"] = True
    if not any(isinstance(callback, ProgressBar) for callback in theirs):
        arguments["enable_progress_bar"] = False
    if not any(isinstance(callback, ModelSummary) for callback in theirs):
        # A summary runs the module on its example, which may make lazy layers; without one it changes nothing.
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
    """An experiment's sections without the user's loggers, which would make files."""
    return {**sections, "trainer": {name: value for name, value in sections["trainer"].items() if name != "logger"}}


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def forget_absent_gpus() -> None:
    """Spares torch's optimizers (2.15, built for CUDA) from looking for a GPU's library at each step (some 100 µs)."""
    if not torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def flush_denormals(module_class: type | None) -> None:
    """Lets numbers below 1e-38 be 0, or not be, as a module's class wants it by `flush_denormals = True` of its own.

    Moments of weights whose ReLU is dead shrink until they are denormal, and stay so: a CPU takes up to 2.4 times as
    long over them. It is another arithmetic, so it is for a class to ask for; what a subclass inherits does not count.

    It holds for this thread and for those that are started from it, so it is to be said before a process's first
    parallel work.
    """
    wanted = module_class is not None and vars(module_class).get("flush_denormals") is True
    torch.set_flush_denormal(wanted)


@contextlib.contextmanager
def denormals_as_before() -> Iterator[None]:
    """Puts back how this thread takes numbers that small: inline, it is the driver's."""
    before = sys.float_info.min / 4 == 0.0
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def seed_and_threads(spec: TrialSpec) -> None:
    if spec.threads:
        torch.set_num_threads(spec.threads)
    pl.seed_everything(spec.seed, workers=True, verbose=False)


def run(spec: TrialSpec, link: Link, prepare_trainer: Prepare | None = None) -> int:
    """Runs one trial and says everything as events, the last of which is finished, stopped or failed.

    Args:
        prepare_trainer: is given the Trainer before its fit; for example studies/acceleration's, which makes it faster.

    Returns:
        The exit status of its process: 0, or DISK_FULL where the ending could not be said: the trial has not
        ended then, and goes on from its last checkpoint once there is space.
    """
    resources = ResourceSampler(link)
    resources.start()
    ending: Event
    try:
        with denormals_as_before():
            ending = _run(spec, link, prepare_trainer)
    except BaseException as error:  # Lightning turns signals into SystemExit: no ending goes unsaid
        _print_traceback()
        if disk_is_full(error):
            return DISK_FULL
        text = error_text(error)
        if is_out_of_memory(error):
            used = psutil.Process().memory_info().rss / 1e6
            text = f"{explain(spec.experiment, used)} ({text})"
        ending = Failed(text, clean_text(traceback.format_exc(), TRACEBACK_LIMIT))
    resources.stop()
    resources.join()  # nothing is said after the ending
    try:
        link.say(ending, durable=True)
    except OSError as error:
        if disk_is_full(error):
            return DISK_FULL
        raise
    return 0


def _print_traceback() -> None:
    """Into log.txt, even where the user's code has closed or replaced what is written to."""
    text = traceback.format_exc()
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        with contextlib.suppress(OSError), open(2, "wb", closefd=False) as output:
            output.write(text.encode("utf-8", "backslashreplace"))


def _run(spec: TrialSpec, link: Link, prepare_trainer: Prepare | None) -> Finished | Stopped:
    search_path.use(spec.search_path)
    flush_denormals(class_named(spec.experiment["model"]))
    forget_absent_gpus()
    seed_and_threads(spec)
    parts = build(spec.experiment, spec.seed)
    module, datamodule = parts.module, parts.datamodule
    logger = EventLogger(link, spec.folder, spec.run_id)
    checkpoints = Checkpoints(link, Path(spec.folder) / "checkpoints", spec.metric, spec.direction)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    verdicts = Verdicts(link, spec.metric, spec.pruning, checkpoints)
    # In this order: trainer.checkpoint_callback is the first that is one.
    first: list[Callback] = [checkpoints.resume_point, ValidationSteps()]
    if spec.extends:
        first.append(StretchesSchedules(link))
    trainer = build_trainer(spec, parts, logger, first, [checkpoints, verdicts], prepare_trainer)
    found = loadable(spec.resume, spec.extends)
    link.say(_started(spec, trainer))
    for notice in found.notices:
        link.say(Notice(notice))

    began = time.perf_counter()
    with checkpoints.resume_point.noting_loaders():
        # Read from the trial's own folder, where only its own process writes: objects of the user's are read back too.
        trainer.fit(module, datamodule=datamodule, ckpt_path=found.path, weights_only=found.weights_only)
    summary: dict[str, float] = {"fit_seconds": time.perf_counter() - began}
    averaged = _keep_averaged_weights(spec, link, trainer, parts, checkpoints)
    if checkpoints.best_value is not None:
        summary[f"best/{spec.metric}"] = checkpoints.best_value
    if checkpoints.best_step is not None and checkpoints.best_epoch is not None:
        summary |= {"best/step": checkpoints.best_step, "best/epoch": checkpoints.best_epoch}
    if link.stop_reason == "interrupted":
        return Stopped(link.stop_reason, summary)

    if checkpoints.best.exists() and not averaged:
        load_weights(module, checkpoints.best)
    if trainer.is_global_zero:
        draw_pictures(spec, link, module, datamodule)
    if link.stop_reason is not None:
        return Stopped(link.stop_reason, summary)
    if spec.test and why_no_test(module, datamodule) is None:
        for results in trainer.test(module, datamodule=datamodule, verbose=False):
            summary |= {name: float(value) for name, value in results.items()}
    return Finished(summary, checkpoints.best_value if averaged else None)


def _keep_averaged_weights(
    spec: TrialSpec, link: Link, trainer: Trainer, parts: Parts, checkpoints: Checkpoints
) -> bool:
    """Makes the average that StochasticWeightAveraging leaves in the module the weights that are kept, if it does.

    They are validated once more, because nobody has, and that value is the trial's.
    """
    swa = [item for item in trainer.callbacks if isinstance(item, StochasticWeightAveraging)]  # type: ignore[attr-defined]
    if link.stop_reason is not None or not swa or trainer.current_epoch - 1 < swa[0].swa_start:
        return False
    if spec.metric is not None and trainer.enable_validation:
        results = trainer.validate(parts.module, datamodule=parts.datamodule, verbose=False)
        values = {name: value for of_one in results for name, value in of_one.items()}
        if spec.metric in values:
            checkpoints.best_value = float(values[spec.metric])
    checkpoints.best_step, checkpoints.best_epoch = trainer.global_step, trainer.current_epoch - 1
    checkpoints.save(trainer, checkpoints.best, None, checkpoints.best_value)
    return True


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
    """Module with the best weights of an ended trial, its datamodule, and a Trainer to test or predict with.

    Args:
        folder: the ended trial's; `spec.folder` is where this Trainer may write.
    """
    search_path.use(spec.search_path)
    seed_and_threads(spec)
    parts = build(without_loggers(spec.experiment), spec.seed)
    # Code that logs in a test or a prediction finds what it knows.
    logger = EventLogger(None, spec.folder, spec.run_id)
    others = stand_ins(spec.experiment["trainer"].get("logger"), spec.folder)
    limits = {"devices": 1, "strategy": "auto", "num_nodes": 1, "callbacks": [], "logger": others}
    trainer = build_trainer(spec, parts, logger, [], [], **limits)
    restore_weights(parts, folder / "checkpoints" / "best.ckpt", trainer)
    return parts.module, parts.datamodule, trainer


def restore_weights(parts: Parts, checkpoint: Path, trainer: Trainer | None = None) -> None:
    """Loads a checkpoint's weights into a module that was just built.

    A module may make its layers in setup() or configure_model(), when Lightning calls those: where the weights do not
    fit it as it is, they are called as for a fit of no epochs.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    if saved.keys() <= parts.module.state_dict().keys():  # PyTorch does not miss a layer that is None
        with contextlib.suppress(RuntimeError):
            load_weights(parts.module, checkpoint)
            return
    if trainer is None:
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, devices=1)
    trainer.num_sanity_val_steps = 0
    trainer.fit_loop.max_epochs = 0
    trainer.fit(parts.module, datamodule=parts.datamodule)
    load_weights(parts.module, checkpoint)


def load_weights(module: LightningModule, checkpoint: Path) -> None:
    """Loads a checkpoint's weights, and nothing else from it, into a module of the same shape."""
    # Mapped: the optimizer's states, twice as large as the weights, are not read.
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    if is_overridden("on_load_checkpoint", module):
        try:
            module.on_load_checkpoint(saved)
        except Exception as error:  # it wants an object of the user's own, which is where training goes on alone
            if LEFT_OUT not in saved:
                raise
            missing = ", ".join(saved[LEFT_OUT])
            warnings.warn(f"on_load_checkpoint has no {missing} here, so it raised {error!r}", stacklevel=2)
    module.load_state_dict(saved["state_dict"], strict=module.strict_loading)


def draw_pictures(spec: TrialSpec, link: Link, module: LightningModule, datamodule: LightningDataModule | None) -> None:
    """Draws what a module has to show (`pictures(dataloader)`) on the validation data, and its learning curves.

    A picture that fails is a warning in the log, not the loss of a trained model.
    """
    folder = Path(spec.folder) / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    series: dict[str, tuple[list[int], list[float]]] = {}
    for event in EventReader(Path(spec.folder) / NAME).read():
        if isinstance(event, Metrics):
            for name, value in event.values.items():
                if name == "epoch":
                    continue
                steps, values = series.setdefault(name, ([], []))
                steps.append(event.step)
                values.append(value)
    try:
        from studies.plots import figure as figures
        from studies.plots import registry as pictures

        drawings: dict[str, Any] = {"learning_curves": {"series": series}} if series else {}
        if hasattr(module, "pictures") and datamodule is not None:
            drawings |= module.pictures(_validated(module.trainer, datamodule.val_dataloader()))  # type: ignore[operator]
        for name, arguments in drawings.items():
            figure = pictures.draw(name, **arguments) if isinstance(arguments, dict) else arguments
            figures.save(figure, folder / f"{name}.png")
            link.say(Artifact(f"pictures/{name}.png", "picture"))
    except Exception as error:
        if disk_is_full(error):
            raise
        with contextlib.suppress(Exception):  # the user's code may have made warnings errors, or closed stderr
            warnings.warn(f"pictures are missing: {error_text(error)}", stacklevel=1)
        _print_traceback()


def _validated(trainer: Trainer, dataloader: Any) -> Any:
    """What a fit validates on, which may be a dataloader's first batches: pictures show what the metrics are of."""
    batches = sum(trainer.num_val_batches)
    whole = not 0 < batches < math.inf or not hasattr(dataloader, "__len__") or batches >= len(dataloader)
    return dataloader if whole else _FirstBatches(dataloader, int(batches))


class _FirstBatches:
    """The first so many batches of a dataloader, each time it is iterated."""

    def __init__(self, dataloader: Any, count: int) -> None:
        self._dataloader, self._count = dataloader, count

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._dataloader, self._count)


def warm_up() -> None:
    """Imports, and has done once, what trials need: for the process that they are forked from."""
    from studies.plots import registry  # noqa: F401

    torch.save({}, io.BytesIO())
    get_filesystem("")  # of local files, which Lightning saves through
    versions()


@functools.cache
def versions() -> dict[str, str]:
    """Package -> version, of those that a trial's numbers may depend on, and of Python."""
    packages = ("torch", "torchvision", "pytorch-lightning")
    return {package: importlib.metadata.version(package) for package in packages} | {
        "python": platform.python_version()
    }


def _started(spec: TrialSpec, trainer: Trainer) -> Started:
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    return Started(
        pid=os.getpid(),
        host=socket.gethostname(),
        device=_device_name(trainer),
        versions=versions(),
        epochs=epochs,
        steps=trainer.max_steps if trainer.max_steps > 0 else None,
    )


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def main() -> int:
    """Runs the spec named on the command line; the events go to its folder, and to a driver if one started us."""
    lightning_alias.install()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    spec = TrialSpec.load(sys.argv[1])
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) > 0:
        return run(spec, Link(None))
    driver = os.environ.pop(DRIVER_FD, None)
    connection = Connection(int(driver)) if driver else None
    status = run(spec, Link(EventWriter(Path(spec.folder) / NAME), connection))
    if connection is not None:
        end_in_time()
    return status
