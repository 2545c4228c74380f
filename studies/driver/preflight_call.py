"""Asks a warm process for the preflight check of an experiment; see studies.trial.preflight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.common.errors import WorkFailed
from studies.config.experiment import Experiment
from studies.config.yaml_io import dump_yaml


def preflight_payload(
    experiment: Experiment, threads: int, metric: str | None, extremes: dict[str, list[Any]], state: Path
) -> dict[str, Any]:
    """What the preflight check needs to know."""
    plan = experiment.search
    return {
        "experiment": dump_yaml(experiment.sections),
        "seed": experiment.seed,
        "threads": threads,
        "metric": metric,
        "direction": plan.direction if plan else "maximize",
        "further": plan.further if plan else {},
        "search_path": experiment.search_path,
        "extremes": extremes,
        "state": str(state),
    }


def ask_preflight(
    function: str, experiment: Experiment, payload: dict[str, Any], executor: Any, refresh: Callable[[], None]
) -> dict[str, Any]:
    """The answer of a function of studies.trial.preflight.

    Raises:
        WorkFailed: in one line: its process died.
    """
    try:
        answer: dict[str, Any] = executor.call(f"studies.trial.preflight:{function}", payload, refresh)
    except RuntimeError as error:
        raise WorkFailed(f"the preflight check of {experiment.name} crashed: {error}") from error
    return answer
