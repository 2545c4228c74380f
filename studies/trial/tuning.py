"""Lightning's learning rate finder and batch size finder, and the number of batches, on a copy of an experiment.

Runs in a warm trial process.

Nothing is stored: the module, the data and the random state are those of a process that ends, and Lightning's files go
to a temporary folder. User callbacks and loggers are left out, as Lightning's finders do.
"""

from __future__ import annotations

import math
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.tuner.tuning import Tuner
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from studies.common.search_path import use
from studies.common.text import TRACEBACK_LIMIT, clean_text, error_text
from studies.protocol.trial_spec import TrialSpec
from studies.trial.instantiate import Parts, build
from studies.trial.logger import EventLogger
from studies.trial.parameter_help import parameters_of
from studies.trial.preflight import sections_of
from studies.trial.trainer import build_trainer, seed_and_threads, without_loggers

BETA = 0.98  # of Lightning's running average of the loss
FEWEST = 20  # steps from which a suggestion can be made
LEAST_FALL = 0.01  # of the loss
STEPS = 3  # per batch size


def find_learning_rate(payload: dict[str, Any]) -> dict[str, Any]:
    """Trains for some steps with a learning rate that grows exponentially.

    Args:
        payload: `experiment` (its sections, as YAML), `seed`, `threads`, `search_path`, `low`, `high` and `steps`.

    Returns:
        `parameter` (its dotted name), `learning_rates`, `losses` (running average) and `suggestion` (or None). Or
        `error` (one line), with `traceback` if user code raised.
    """
    return _answered(_find_learning_rate, payload)


def find_batch_size(payload: dict[str, Any]) -> dict[str, Any]:
    """Trains for a few steps with 2, 4, 8, ... samples in a batch, until they do not fit in memory.

    Args:
        payload: as above, with `largest` (batch size to try, a power of two) in place of `low`, `high` and `steps`.

    Returns:
        `parameter`, `batch_size` (the largest that fits), `holds_all_data` (one batch is an epoch) and `device` ("cpu",
        "cuda:0"). Or `error`, as above.
    """
    return _answered(_find_batch_size, payload)


def count_batches(payload: dict[str, Any]) -> dict[str, Any]:
    """Counts the training batches of an epoch.

    Args:
        payload: `experiment`, `seed`, `threads` and `search_path`, as above.

    Returns:
        `batches` (of an epoch; None if they cannot be counted) and `accumulated` (batches per optimizer step). Or
        `error`, as above.
    """
    return _answered(_count_batches, payload)


def _answered(find: Any, payload: dict[str, Any]) -> dict[str, Any]:
    try:
        use(payload["search_path"])
        sections = without_loggers(sections_of(payload))
        with tempfile.TemporaryDirectory(prefix="harness-tuning-") as folder:
            spec = TrialSpec("tuning", sections, payload["seed"], folder, threads=payload["threads"])
            seed_and_threads(spec)
            answer: dict[str, Any] = find(spec, payload)
            return answer
    except (ValueError, OSError, MisconfigurationException) as error:
        return {"error": " ".join(str(error).split())}
    except (Exception, SystemExit) as error:
        return {
            "error": " ".join(error_text(error).split()),
            "traceback": clean_text(traceback.format_exc(), TRACEBACK_LIMIT),
        }


def _find_learning_rate(spec: TrialSpec, payload: dict[str, Any]) -> dict[str, Any]:
    parts = build(spec.experiment, spec.seed)
    parameter = _parameter(spec.experiment, ("model.learning_rate", "model.lr", "optimizer.lr"), "lr")
    if not parts.module.automatic_optimization:
        raise ValueError(f"{type(parts.module).__name__} optimizes manually, so no one else can set its learning rate")
    trainer = _trainer(spec, parts, max_steps=payload["steps"])
    finder = Tuner(trainer).lr_find(
        parts.module,
        datamodule=parts.datamodule,
        min_lr=payload["low"],
        max_lr=payload["high"],
        num_training=payload["steps"],
        update_attr=False,
    )
    assert finder is not None
    rates = [float(rate) for rate in finder.results["lr"]]
    losses = unbiased([float(loss) for loss in finder.results["loss"]])
    rates = rates[: len(losses)]
    return {
        "parameter": parameter,
        "learning_rates": rates,
        "losses": losses,
        "suggestion": suggested(rates, losses),
    }


def _find_batch_size(spec: TrialSpec, payload: dict[str, Any]) -> dict[str, Any]:
    parts = build(spec.experiment, spec.seed)
    parameter = _parameter(spec.experiment, ("data.batch_size", "model.batch_size"), "batch-size")
    trainer = _trainer(spec, parts, max_steps=STEPS, limit_train_batches=1.0)
    largest = payload["largest"]
    # Lightning stops before it tries max_val.
    found = Tuner(trainer).scale_batch_size(
        parts.module, datamodule=parts.datamodule, steps_per_trial=STEPS, max_trials=60, max_val=2 * largest
    )
    assert found is not None
    return {
        "parameter": parameter,
        "batch_size": min(found, largest),
        "holds_all_data": trainer.num_training_batches <= 1,
        "device": str(parts.module.device),
    }


def _count_batches(spec: TrialSpec, payload: dict[str, Any]) -> dict[str, Any]:
    parts = build(spec.experiment, spec.seed)
    trainer = _trainer(spec, parts, max_steps=1)
    trainer.fit(parts.module, datamodule=parts.datamodule)
    batches = trainer.num_training_batches
    return {"batches": int(batches) if math.isfinite(batches) else None, "accumulated": trainer.accumulate_grad_batches}


def _parameter(sections: dict[str, Any], names: Sequence[str], command: str) -> str:
    """The first of the parameters that the experiment has."""
    known = {item["name"] for item in parameters_of({**sections, "trainer": None})}
    for name in names:
        if name in known:
            return name
    allowed = f"{', '.join(names[:-1])} or {names[-1]}"
    raise ValueError(f"{command} needs a parameter {allowed}, and {sections['model']['class_path']} has none of them")


def _trainer(spec: TrialSpec, parts: Parts, max_steps: int, **more: Any) -> Trainer:
    limits: dict[str, Any] = {"max_epochs": -1, "max_steps": max_steps, "min_epochs": None, "min_steps": None}
    limits |= {"max_time": None, "limit_val_batches": 0, "num_sanity_val_steps": 0, "callbacks": None, "logger": None}
    limits |= {"devices": 1, "strategy": "auto", "num_nodes": 1, "fast_dev_run": False, "profiler": None}
    limits |= {"default_root_dir": spec.folder, "enable_checkpointing": False}
    return build_trainer(spec, parts, EventLogger(None, Path(spec.folder), spec.run_id), [], [], **limits, **more)


def unbiased(losses: Sequence[float]) -> list[float]:
    """Lightning's running averages of the loss, whose correction for their start is one step late, corrected.

    Without this a constant loss seems to double within the first steps.
    """
    return [loss * (1 - BETA ** (step + 1)) / (1 - BETA**step) for step, loss in enumerate(losses, start=1)]


def suggested(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss falls fastest over the logarithm of the learning rate, before its minimum.

    None if it does not fall by a hundredth, or if there are too few values. The first tenth is left out: it averages
    few steps.
    """
    finite = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
    if len(finite) < FEWEST:
        return None
    reach = max(1, len(finite) // 20)  # steps on either side over which a slope is taken
    first = max(reach, len(finite) // 10)
    lowest = min(range(first, len(finite)), key=lambda place: finite[place][1])
    begin, end = finite[first][1], finite[lowest][1]
    if begin - end < LEAST_FALL * max(abs(begin), abs(end)):
        return None
    slopes = {
        place: finite[place + reach][1] - finite[place - reach][1]
        for place in range(first, min(lowest + 1, len(finite) - reach))
    }
    steepest = min(slopes, key=lambda place: slopes[place], default=None)
    return None if steepest is None else float(f"{finite[steepest][0]:.2g}")
