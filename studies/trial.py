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
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer

from studies.allocator import keep_freed_memory
from studies.callbacks import EventLogger, ResourceSampler, Verdicts
from studies.checkpoints import Checkpoints, loadable
from studies.components import build_datamodule, build_module, import_class, instantiate, sizes_of
from studies.event_log import NAME, EventReader, EventWriter
from studies.link import DRIVER_FD, Link
from studies.memory import explain, is_out_of_memory
from studies.messages import Artifact, Event, Failed, Finished, Metrics, Started, Stopped, TrialSpec
from studies.plain import is_plain
from studies.trouble import DISK_FULL, disk_is_full

if TYPE_CHECKING:
    from studies.fast_loop import Together

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no tips in every trial's log


def build_trainer(
    spec: TrialSpec, logger: EventLogger | bool, ours: list[Callback], together: Together | None = None, **limits: Any
) -> Trainer:
    """The Trainer of an experiment's trainer section, quiet, with our logger and callbacks beside the user's."""
    arguments = {name: instantiate(value) for name, value in spec.experiment["trainer"].items()}
    arguments.update(limits)
    theirs = arguments.pop("callbacks", None) or []
    arguments.setdefault("num_sanity_val_steps", 0)  # the rehearsal before the study has done that
    trainer = Trainer(
        **arguments,
        logger=logger,
        callbacks=[*theirs, *ours],
        default_root_dir=spec.folder,
        enable_checkpointing=False,  # Checkpoints does it
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    accelerate(trainer, together)
    return trainer


def accelerate(trainer: Trainer, together: Together | None = None) -> None:
    """Gives a Trainer the faster loop, unless that is switched off or was written for another version of a library."""
    if is_plain():
        return
    try:
        from studies.fast_loop import speed_up
    except (ImportError, AttributeError) as error:
        warnings.warn(f"trains by Lightning's own loop, for the faster one does not import: {error}", stacklevel=2)
        return
    speed_up(trainer, together)


def forget_absent_gpus() -> None:
    """Spares torch's optimizers (2.15, built for CUDA) from looking for a GPU's library at each step (some 100 µs)."""
    if not torch.cuda.is_available():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def flush_denormals(module_class: type) -> None:
    """Lets numbers below 1e-38 be 0, or not be, as a module's class wants it by `flush_denormals = True` of its own.

    Moments of weights whose ReLU is dead shrink until they are denormal, and stay so: a CPU takes up to 2.4 times as
    long over them. It is another arithmetic, so it is for a class to ask for; what a subclass inherits does not count.

    It holds for this thread and for those that are started from it, so it is to be said before a process's first
    parallel work.
    """
    torch.set_flush_denormal(not is_plain() and vars(module_class).get("flush_denormals") is True)


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


def run(spec: TrialSpec, link: Link, together: Together | None = None) -> int:
    """Runs one trial and says everything as events, the last of which is finished, stopped or failed.

    Args:
        together: takes plain steps for several trials at once; see studies/pack.py.

    Returns:
        The exit status of its process: 0, or DISK_FULL where the ending could not be said: the trial has not
        ended then, and goes on from its last checkpoint once there is space.
    """
    resources = ResourceSampler(link)
    resources.start()
    ending: Event
    try:
        with denormals_as_before():
            ending = _run(spec, link, together)
    except BaseException as error:  # Lightning turns signals into SystemExit: no ending goes unsaid
        traceback.print_exc()
        if disk_is_full(error):
            return DISK_FULL
        text = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            used = psutil.Process().memory_info().rss / 1e6
            text = f"{explain(spec.experiment, used)} ({text})"
        ending = Failed(text, traceback.format_exc())
    resources.stop()
    resources.join()  # nothing is said after the ending
    try:
        link.say(ending, durable=True)
    except OSError as error:
        if disk_is_full(error):
            return DISK_FULL
        raise
    return 0


def _run(spec: TrialSpec, link: Link, together: Together | None) -> Finished | Stopped:
    flush_denormals(import_class(spec.experiment["model"]["class_path"]))
    if not is_plain():
        keep_freed_memory()
    forget_absent_gpus()
    seed_and_threads(spec)
    datamodule = build_datamodule(spec.experiment["data"], spec.seed)
    module = build_module(spec.experiment["model"], sizes_of(datamodule))
    logger = EventLogger(link)
    checkpoints = Checkpoints(link, Path(spec.folder) / "checkpoints", spec.metric, spec.direction)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    # In this order: where Verdicts stops a fit, Checkpoints saves it.
    trainer = build_trainer(spec, logger, [Verdicts(link, spec.metric, spec.pruning), checkpoints], together)
    logger.trainer = trainer
    link.say(_started(spec, trainer))

    began = time.perf_counter()
    trainer.fit(module, datamodule=datamodule, ckpt_path=loadable(spec.resume), weights_only=True)
    summary: dict[str, float] = {"fit_seconds": time.perf_counter() - began}
    if checkpoints.best_value is not None:
        summary[f"best/{spec.metric}"] = checkpoints.best_value
    if checkpoints.best_step is not None and checkpoints.best_epoch is not None:
        summary |= {"best/step": checkpoints.best_step, "best/epoch": checkpoints.best_epoch}
    if link.stop_reason == "interrupted":
        return Stopped(link.stop_reason, summary)

    if checkpoints.best.exists():
        load_weights(module, checkpoints.best)
    if trainer.is_global_zero:
        draw_pictures(spec, link, module, datamodule)
    if link.stop_reason is not None:
        return Stopped(link.stop_reason, summary)
    if spec.test:
        for results in trainer.test(module, datamodule=datamodule, verbose=False):
            summary |= {name: float(value) for name, value in results.items()}
    return Finished(summary)


def prepare_trained(spec: TrialSpec, folder: Path) -> tuple[LightningModule, LightningDataModule, Trainer]:
    """Module with the best weights of an ended trial, its datamodule, and a Trainer to test or predict with.

    Args:
        folder: the ended trial's; `spec.folder` is where this Trainer may write.
    """
    seed_and_threads(spec)
    datamodule = build_datamodule(spec.experiment["data"], spec.seed)
    module = build_module(spec.experiment["model"], sizes_of(datamodule))
    load_weights(module, folder / "checkpoints" / "best.ckpt")
    trainer = build_trainer(spec, False, [], devices=1, strategy="auto", num_nodes=1, callbacks=[])
    return module, datamodule, trainer


def load_weights(module: LightningModule, checkpoint: Path) -> None:
    """Loads a checkpoint's weights, and nothing else from it, into a module of the same shape."""
    # Mapped: the optimizer's states, twice as large as the weights, are not read.
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    module.load_state_dict(saved["state_dict"])


def draw_pictures(spec: TrialSpec, link: Link, module: LightningModule, datamodule: LightningDataModule) -> None:
    """Draws what a module has to show (`pictures(dataloader)`) on the validation data, and its learning curves.

    A picture that fails is a warning in the log, not the loss of a trained model.
    """
    folder = Path(spec.folder) / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    series: dict[str, tuple[list[int], list[float]]] = {}
    for event in EventReader(Path(spec.folder) / NAME).read():
        if isinstance(event, Metrics):
            for name, value in event.values.items():
                steps, values = series.setdefault(name, ([], []))
                steps.append(event.step)
                values.append(value)
    try:
        from studies import figures, pictures

        drawings: dict[str, Any] = {"learning_curves": {"series": series}} if series else {}
        if hasattr(module, "pictures"):
            drawings |= module.pictures(_validated(module.trainer, datamodule.val_dataloader()))  # type: ignore[operator]
        for name, arguments in drawings.items():
            figure = pictures.draw(name, **arguments) if isinstance(arguments, dict) else arguments
            figures.save(figure, folder / f"{name}.png")
            link.say(Artifact(f"pictures/{name}.png", "picture"))
    except Exception as error:
        if disk_is_full(error):
            raise
        warnings.warn(f"pictures are missing: {type(error).__name__}: {error}", stacklevel=1)
        traceback.print_exc()


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
    spec = TrialSpec.load(sys.argv[1])
    sys.path.extend(folder for folder in spec.search_path if folder not in sys.path)
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) > 0:
        return run(spec, Link(None))
    driver = os.environ.pop(DRIVER_FD, None)
    connection = Connection(int(driver)) if driver else None
    return run(spec, Link(EventWriter(Path(spec.folder) / NAME), connection))


if __name__ == "__main__":
    raise SystemExit(main())
