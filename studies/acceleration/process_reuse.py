"""Whether a trial left its process as it found it, so that the next one may run there.

A process of its own costs a trial some 80 ms of a core: the warm server's page tables are copied, and the pages that
are written to, and in the end all is taken down again. On a GPU it costs seconds, for there CUDA begins anew with
each process. But what runs twice in one process may remember: a generator that belongs to a file, a counter of a
class, a cache. The numbers of such a trial would depend on those that came before it, and no replay would have them
again. Of the classes of this project, of Lightning and of PyTorch it is known that they remember nothing
(tests/acceleration/test_process_reuse.py); of others it is not, and each of their trials gets a process of its own.
"""

from __future__ import annotations

import functools
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric.utilities import registry
from lightning_utilities.core.rank_zero import WarningCache

from studies.acceleration.training.malloc import give_back_freed_memory
from studies.protocol.channel import LISTENER
from studies.protocol.events import Event, Finished, Stopped
from studies.protocol.trial_spec import TrialSpec

PACKAGES = ("lightning_fabric", "pytorch_lightning", "torch", "torchvision")  # whose classes are known
TRIALS = 100  # after so many a process ends: what is lost little by little is not lost for long


class Slate:
    """What a process was before its first trial."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._warned = [(cache, set(cache)) for cache in warning_caches()]
        self._state = _state()
        self._trials = 0

    def is_clean(self, spec: TrialSpec, ending: Event | None) -> bool:
        """Whether a trial that ended so may be followed by another one here, once `wipe` was called."""
        self._trials += 1
        ended_well = isinstance(ending, Finished) or (isinstance(ending, Stopped) and ending.why == "pruned")
        return (
            ended_well
            and all(keeps_no_state(path) for path in class_paths(spec.experiment))
            and not _has_children()
            and not registry.entry_points(group="pytorch_lightning.callbacks_factory")  # another package's callbacks
            and _state() == self._state
            and self._trials < TRIALS
        )

    def wipe(self) -> None:
        """Puts back what every trial changes, and lets go of its memory."""
        for name in set(os.environ) | set(self._environment):
            if name not in self._environment:
                del os.environ[name]
            elif os.environ.get(name) != self._environment[name]:
                os.environ[name] = self._environment[name]
        for cache, said in self._warned:  # a warning belongs into the log.txt of each trial
            cache.clear()
            cache |= said
        with warnings.catch_warnings():
            pass  # makes Python forget which warnings it has shown
        gc.collect()  # a Trainer and its module know each other
        gc.freeze()  # what is left is here to stay: the next collection need not look at it
        give_back_freed_memory()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def class_paths(section: Any) -> Iterator[str]:
    """All classes that an experiment names."""
    if isinstance(section, dict):
        if isinstance(section.get("class_path"), str):
            yield section["class_path"]
        section = list(section.values())
    if isinstance(section, list):
        for item in section:
            yield from class_paths(item)


def keeps_no_state(class_path: str) -> bool:
    """Whether what runs twice in one process is known to do the same: the class says so itself, or is of PACKAGES.

    A class that inherits from one that says so has to say it again: it may have added what remembers.
    """
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and vars(found).get("keeps_no_state") is True:
        return True
    return str(getattr(found, "__module__", "")).partition(".")[0] in PACKAGES


def _has_children() -> bool:
    """Whether this process has started others that are still there."""
    multiprocessing.active_children()  # lets go of those that have ended
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _state() -> list[Any]:
    """What a trial could change for those that follow it, and that none of ours does without being told to."""
    cudnn = torch.backends.cudnn
    return [
        os.getcwd(),
        list(sys.path),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)],
        sorted(thread.name for thread in threading.enumerate() if thread.name != LISTENER),
        [logging.getLogger(name).level for name in (None, "pytorch_lightning", "lightning_fabric")],
        list(warnings.filters),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        [cudnn.enabled, cudnn.benchmark, cudnn.deterministic],
    ]


def warm_up() -> None:
    """Looks, before trials are forked, for what takes milliseconds to find."""
    # Each Trainer asks all installed packages whether they offer it callbacks.
    registry.entry_points = functools.cache(registry.entry_points)  # type: ignore[assignment]
    registry.entry_points(group="pytorch_lightning.callbacks_factory")  # asked, not called: that is for each trial
    warning_caches()


@functools.cache
def warning_caches() -> tuple[WarningCache, ...]:
    """Those in which Lightning keeps what it has warned of once. The warm server looks for them, which takes 8 ms."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith(("pytorch_lightning.", "lightning_fabric.")):
            for value in vars(module).values():
                held = [value, *vars(value).values()] if isinstance(value, type) else [value]
                found += [item for item in held if isinstance(item, WarningCache)]
    return tuple(found)
