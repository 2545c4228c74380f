"""Decides whether a trial left its process clean, so that the next trial may reuse it.

A new process costs a trial about 80 ms of CPU: the warm server's page tables and all pages written to are copied, and
freed at the end. On a GPU it costs seconds, since CUDA is initialized in each process. But code that runs twice in one
process may keep state: a module-level generator, a class counter, a cache. Such a trial's results would depend on
earlier trials and could not be replayed. The classes of this project, of Lightning and of PyTorch are known to keep no
state (tests/acceleration/test_process_reuse.py); trials with other classes get a new process each.
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
from typing import Any

import torch
from lightning_fabric.utilities import registry
from lightning_utilities.core.rank_zero import WarningCache

from studies.acceleration.training.malloc import give_back_freed_memory
from studies.common.sources import class_paths_in
from studies.protocol.channel import LISTENER
from studies.protocol.events import Event, Finished, Stopped
from studies.protocol.trial_spec import TrialSpec

PACKAGES = ("lightning_fabric", "pytorch_lightning", "torch", "torchvision")  # known to keep no state
TRIALS = 100  # trials per process, to bound slow leaks


class Baseline:
    """The state of a process before its first trial."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._warned = [(cache, set(cache)) for cache in warning_caches()]
        self._state = _state()
        self._trials = 0

    def is_clean(self, spec: TrialSpec, ending: Event | None) -> bool:
        """Whether another trial may run here after this one, once `wipe` was called."""
        self._trials += 1
        ended_well = isinstance(ending, Finished) or (isinstance(ending, Stopped) and ending.why == "pruned")
        return (
            ended_well
            and all(keeps_no_state(path) for path in class_paths_in(spec.experiment))
            and not _has_children()
            and not registry.entry_points(group="pytorch_lightning.callbacks_factory")  # callbacks of other packages
            and _state() == self._state
            and self._trials < TRIALS
        )

    def wipe(self) -> None:
        """Restores what every trial changes, and frees its memory."""
        for name in set(os.environ) | set(self._environment):
            if name not in self._environment:
                del os.environ[name]
            elif os.environ.get(name) != self._environment[name]:
                os.environ[name] = self._environment[name]
        for cache, said in self._warned:  # each trial's log.txt should contain its warnings
            cache.clear()
            cache |= said
        with warnings.catch_warnings():
            pass  # resets Python's record of shown warnings
        gc.collect()  # a Trainer and its module refer to each other
        gc.freeze()  # the rest is permanent: later collections skip it
        give_back_freed_memory()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def keeps_no_state(class_path: str) -> bool:
    """Whether a class is known to keep no state between trials: it declares so itself, or is from PACKAGES.

    The declaration is not inherited, since a subclass may add state.
    """
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if isinstance(found, type) and vars(found).get("keeps_no_state") is True:
        return True
    return str(getattr(found, "__module__", "")).partition(".")[0] in PACKAGES


def _has_children() -> bool:
    """Whether this process has running children."""
    multiprocessing.active_children()  # reaps those that have ended
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _state() -> list[Any]:
    """Global state that a trial could change for later trials, and that the harness itself does not change."""
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
    """Fills slow-to-fill caches before trials are forked."""
    # Each Trainer scans all installed packages for callbacks.
    registry.entry_points = functools.cache(registry.entry_points)  # type: ignore[assignment]
    registry.entry_points(group="pytorch_lightning.callbacks_factory")  # listed, not called: each trial does that
    warning_caches()


@functools.cache
def warning_caches() -> tuple[WarningCache, ...]:
    """Lightning's caches of warnings already shown. Found by the warm server, which takes 8 ms."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith(("pytorch_lightning.", "lightning_fabric.")):
            for value in vars(module).values():
                held = [value, *vars(value).values()] if isinstance(value, type) else [value]
                found += [item for item in held if isinstance(item, WarningCache)]
    return tuple(found)
