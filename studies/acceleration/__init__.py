"""Optional faster parts. The harness is complete without this folder; docs/acceleration.md describes each part.

Parts are injected in two places, where a study (driver/session.py) and a trial (executors/worker.py) are assembled, as
arguments whose defaults are the plain parts. A part is imported on demand; if that fails, because a library has an
unexpected version, it is skipped with one warning.

Nothing here may change results: tests/acceleration/ compares each part with what it replaces.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple


def for_tracking() -> dict[str, Any]:
    """Arguments of `Tracking`: several calls in one transaction, artifacts hard-linked instead of copied."""
    parts = {
        "together": _part("mlflow.single_transaction", "one_transaction", "MLflow is written call by call"),
        "place": _part("mlflow.local_artifacts", "place", "artifacts are copied by MLflow"),
    }
    return {name: part for name, part in parts.items() if part is not None}


def for_search() -> dict[str, Any]:
    """Arguments of `Search`: a storage that reads from memory, and a TPE that caches its computations."""
    parts = {"writer": _part("optuna.write_behind", "WriteBehindStorage", "Optuna's own storage is used")}
    tpe = _part("optuna.cached_tpe", "CachedTPE", "Optuna's own TPE is used")
    sampler_cache = _part("optuna.cached_tpe", "SamplerCache", "")
    if tpe is not None and sampler_cache is not None:
        parts |= {"samplers": {"tpe": tpe}, "prepare_sampler": sampler_cache()}
    return {name: part for name, part in parts.items() if part is not None}


PACKING_GAIN = "studies.acceleration.packing.gain:measure"  # to be called in a warm process


class TrialParts(NamedTuple):
    """The parts for a trial's process.

    Attributes:
        prepare_trainer: gives a Trainer a faster loop.
        keep_memory: keeps freed memory for the next step.
        new_baseline: creates a Baseline, which decides whether the next trial may run in the same process.
        run_packed: runs several trials as one model.
    """

    prepare_trainer: Callable[..., None] | None
    keep_memory: Callable[[], None] | None
    new_baseline: Callable[[], Any] | None
    run_packed: Callable[..., None] | None


@functools.cache
def for_trial() -> TrialParts:
    return TrialParts(
        _part("training.epoch_loop", "speed_up", "trials are trained by Lightning's own loop"),
        _part("training.malloc", "keep_freed_memory", "freed memory goes back to the system"),
        _part("process_reuse", "Baseline", "each trial gets a process of its own"),
        _part("packing.packed_trials", "run_packed", "trials are not packed"),
    )


def warm_up() -> None:
    """Imports what trials use and fills caches before they are forked."""
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
            warnings.warn(f"{instead}: the faster part cannot be imported: {error}", stacklevel=3)
        return None
