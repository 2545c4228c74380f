"""What a sampler would have found among recorded trials, as in tabular benchmarks of hyperparameter search.

A sampler may propose any point of the space, but only the recorded ones have results. So each proposal gets the result
of the nearest recorded trial that no earlier proposal got, as in HPO-B's discrete benchmarks (Pineda Arango et al.,
"HPO-B: A large-scale reproducible benchmark for black-box HPO based on OpenML", 2021) and NAS-Bench (Ying et al.,
2019). The distance is Euclidean with each range scaled to 0..1 on its own scale, and 1 between different choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState

from studies.common.objective import better
from studies.config.search_space import Choice, Range, Space, encode_choice
from studies.search.recorded_curves import Curve
from studies.search.samplers import derive_seed, distribution_of, make_pruner, make_sampler, suggest

Point = Mapping[str, Any]


class Step(NamedTuple):
    """A trial of a replayed search.

    Attributes:
        best: the best value of a whole trial so far, or None.
        reports: number of reports that all trials so far took.
    """

    best: float | None
    reports: int


def search_again(
    curves: Sequence[Curve], space: Space, direction: str, sampler: str, pruner: str, seed: int, trials: int
) -> list[Step]:
    """Searches among recorded trials, one at a time; returns what was known after each."""
    judge = make_pruner(pruner, max(len(curve.reports) for curve in curves))
    ways: list[Any] = [direction]  # Optuna's type is a literal
    study = optuna.create_study(study_name=f"replay {seed}", directions=ways, pruner=judge)
    places = np.array([_place(curve.params, space) for curve in curves])
    free = np.ones(len(curves), dtype=bool)
    best: float | None = None
    reports, steps = 0, []
    for number in range(min(trials, len(curves))):
        study.sampler = make_sampler(sampler, derive_seed(seed, number, "sampler"))
        trial = study.ask()
        proposed = {name: suggest(trial, name, distribution_of(parameter)) for name, parameter in space.items()}
        far = _distances(places, np.array(_place(proposed, space)), space)
        nearest = int(np.argmin(np.where(free, far, math.inf)))
        free[nearest] = False
        curve = curves[nearest]
        whole = _run(trial, curve)
        reports += whole or len(curve.reports)
        if whole is None:
            study.tell(trial, curve.value)
            best = curve.value if better(curve.value, best, direction) else best
        else:
            study.tell(trial, state=TrialState.PRUNED)
        steps.append(Step(best, reports))
    return steps


def _run(trial: optuna.Trial, curve: Curve) -> int | None:
    """Reports a curve until its trial is pruned; returns after how many reports, or None if it was not."""
    for count, value in enumerate(curve.reports, 1):
        if math.isfinite(value):
            trial.report(value, count)
        if count < len(curve.reports) and trial.should_prune():
            return count
    return None


def regrets(
    curves: Sequence[Curve], space: Space, direction: str, sampler: str, seeds: Sequence[int], trials: int
) -> list[float]:
    """The median regret after each trial: how much worse than the best recorded value the best one found is."""
    best = _best(curves, direction)
    runs = [search_again(curves, space, direction, sampler, "none", seed, trials) for seed in seeds]
    found = [[abs(best - step.best) for step in run if step.best is not None] for run in runs]
    return [median(column) for column in zip(*found, strict=True)]


def _best(curves: Sequence[Curve], direction: str) -> float:
    values = [curve.value for curve in curves]
    return max(values) if direction == "maximize" else min(values)


def _place(params: Point, space: Space) -> list[float]:
    """A point with each range scaled to 0..1; a choice is its index."""
    return [_scaled(parameter, params[name]) for name, parameter in space.items()]


def _scaled(parameter: Range | Choice, value: Any) -> float:
    if isinstance(parameter, Choice):
        encoded = [encode_choice(one) for one in parameter.values]
        given = value if value in encoded else encode_choice(value)
        return float(encoded.index(given))
    low, high = parameter.low, parameter.high
    if high == low:
        return 0.0
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _distances(places: np.ndarray, place: np.ndarray, space: Space) -> np.ndarray:
    """Distances of recorded points (N, D) from a point (D,) -> (N,)."""
    apart = np.abs(places - place)
    is_choice = [isinstance(parameter, Choice) for parameter in space.values()]
    apart[:, is_choice] = apart[:, is_choice] > 0
    return np.asarray(np.sqrt((apart**2).sum(axis=1)))
