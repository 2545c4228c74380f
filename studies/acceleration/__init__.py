"""Optional faster parts. The harness is complete without this folder; docs/acceleration.md has what each part promises.

Parts are put in at two places, where a study is put together (driver/session.py) and where a trial is
(executors/worker.py), as arguments whose defaults are the plain ones. A part is imported when it is asked for. One that
does not import, because a library has another version than it was written for, is left out with one warning.

Nothing here may change a result: tests/acceleration/ compares each part with what it stands for.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple


def for_tracking() -> dict[str, Any]:
    """Arguments of `Tracking`: several calls in one transaction, artifacts that are linked instead of copied."""
    parts = {
        "together": _part("mlflow.single_transaction", "one_transaction", "MLflow is written call by call"),
        "place": _part("mlflow.local_artifacts", "place", "artifacts are copied by MLflow"),
    }
    return {name: part for name, part in parts.items() if part is not None}


def for_search() -> dict[str, Any]:
    """Arguments of `Search`: a study that is answered from memory, a TPE that remembers what it has worked out."""
    parts = {"writer": _part("optuna.write_behind", "WriteBehindStorage", "Optuna's own storage is used")}
    tpe = _part("optuna.cached_tpe", "CachedTPE", "Optuna's own TPE is used")
    sampler_cache = _part("optuna.cached_tpe", "SamplerCache", "")
    if tpe is not None and sampler_cache is not None:
        parts |= {"samplers": {"tpe": tpe}, "prepare_sampler": sampler_cache()}
    return {name: part for name, part in parts.items() if part is not None}


PACKING_GAIN = "studies.acceleration.packing.gain:measure"  # what a warm process is to call


class TrialParts(NamedTuple):
    """What a trial's process may use.

    Attributes:
        prepare_trainer: gives a Trainer a faster loop.
        keep_memory: has freed memory kept for the next step.
        new_slate: makes what says whether the next trial may run in the same process.
        run_packed: runs several trials as one model.
    """

    prepare_trainer: Callable[..., None] | None
    keep_memory: Callable[[], None] | None
    new_slate: Callable[[], Any] | None
    run_packed: Callable[..., None] | None


@functools.cache
def for_trial() -> TrialParts:
    return TrialParts(
        _part("training.epoch_loop", "speed_up", "trials are trained by Lightning's own loop"),
        _part("training.malloc", "keep_freed_memory", "freed memory goes back to the system"),
        _part("process_reuse", "Slate", "each trial gets a process of its own"),
        _part("packing.packed_trials", "run_packed", "trials are not packed"),
    )


def warm_up() -> None:
    """Imports what trials use, and has caches filled, before they are forked."""
    for_trial()
    for name in ("matplotlib.quick_text", "process_reuse"):
        module = _part(name, "warm_up", "")
        if module is not None:
            module()


def _part(module: str, name: str, instead: str) -> Any | None:
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except (ImportError, AttributeError) as error:
        if instead:
            warnings.warn(f"{instead}, for the faster part does not import: {error}", stacklevel=3)
        return None
