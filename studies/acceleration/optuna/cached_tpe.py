"""A caching TPE: draws the same values as Optuna's TPESampler, without processing all trials each time.

For each draw, Optuna's sampler splits the ended trials into good and other ones and transforms the parameters of all of
them: two thirds of the driver's work for the 10,000th trial of a study. Ended trials do not change, so here each is
transformed once and kept in sorted arrays.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studies.acceleration.optuna.parzen_density import log_density


class Memory:
    """The complete and pruned trials of one study, in TPE's representation, in the order in which they ended."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.ranks = array("d"), array("d"), array("d")  # see _rank; their order splits good trials from others
        self.params: dict[str, array[float]] = {}  # parameter -> transformed values, NaN if a trial lacks it
        self.infeasible = False  # whether a trial violated a constraint
        self._noted: set[int] = set()
        self._first_open = 0

    def note(self, trials: list[FrozenTrial], sign: float) -> list[FrozenTrial]:
        """Adds trials that ended since the last call; returns the running ones.

        Args:
            trials: all trials of the study, by number.
            sign: 1 to minimize the metric, -1 to maximize it.
        """
        ended_so_far, running = True, []
        for trial in trials[self._first_open :]:
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                ended_so_far = False
                if trial.state == TrialState.RUNNING:
                    running.append(trial)
            elif trial.number not in self._noted:
                self._noted.add(trial.number)
                if trial.state != TrialState.FAIL:
                    self._take(trial, sign)
            if ended_so_far:
                self._first_open = trial.number + 1
                self._noted.discard(trial.number)
        return running

    def _take(self, trial: FrozenTrial, sign: float) -> None:
        self.infeasible |= any(value > 0 for value in trial.constraints.values())
        self.numbers.append(trial.number)
        for column, part in zip(self.ranks, _rank(trial, sign), strict=True):
            column.append(part)
        for name in trial.params.keys() - self.params.keys():
            self.params[name] = array("d", [np.nan]) * (len(self.numbers) - 1)
        for name, column in self.params.items():
            there = name in trial.params
            column.append(trial.distributions[name].to_internal_repr(trial.params[name]) if there else np.nan)


def _rank(trial: FrozenTrial, sign: float) -> tuple[float, float, float]:
    """Sort key: complete trials by value, then pruned ones by last step and its value (as in _split_trials)."""
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return 0, sign * trial.value, 0
    if not trial.intermediate_values:
        return 1, 1, 0
    step, value = max(trial.intermediate_values.items())
    return 1, -step, np.inf if np.isnan(value) else sign * value


class CachedTPE(optuna.samplers.TPESampler):
    """TPE with Optuna's defaults, for single-objective studies.

    Unsupported cases use Optuna's implementation: several objectives, constraints, and Hyperband, whose brackets each
    see only some of the trials.

    Attributes:
        memory: depends only on the trials, so it can be passed on to the study's next sampler.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.memory = Memory()

    def _sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # Optuna scans all trials to see whether enough have ended; that cannot change back.
        if search_space and type(study) is optuna.Study and len(self.memory.numbers) >= self._n_startup_trials:
            return self._sample(study, trial, search_space)
        return super()._sample_relative(study, trial, search_space)

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if type(study) is not optuna.Study or len(study.directions) > 1:
            return super()._sample(study, trial, search_space)
        memory = self.memory
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        running = memory.note(study.get_trials(deepcopy=False), sign)
        if memory.infeasible:
            return super()._sample(study, trial, search_space)

        # Ties go to the older trial.
        by_rank = np.lexsort([np.array(column) for column in (memory.numbers, *reversed(memory.ranks))])
        good = by_rank[: default_gamma(len(by_rank))]
        liars = {other.number: self._get_params(other, study) for other in running if other.number != trial.number}
        numbers = np.append(memory.numbers, [*liars])
        is_good = np.isin(np.arange(len(numbers)), good)
        is_whole = np.ones(len(numbers), dtype=bool)
        columns = {}
        for name, distribution in search_space.items():
            inside = distribution.to_internal_repr
            ended = memory.params.get(name, array("d", [np.nan]) * len(by_rank))
            lies = [inside(params[name]) if name in params else np.nan for params in liars.values()]
            columns[name] = np.append(ended, lies)
            is_whole &= ~np.isnan(columns[name])
        by_number = np.argsort(numbers)
        estimators = []
        for chosen in (is_whole & is_good, is_whole & ~is_good):
            rows = by_number[chosen[by_number]]
            observations = {name: column[rows] for name, column in columns.items()}
            estimators.append(_ParzenEstimator(observations, search_space, self._parzen_estimator_parameters))
        below, above = estimators
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        drawn = self._compare(samples, below.log_pdf(samples) - log_density(above, samples))
        return {name: distribution.to_external_repr(drawn[name]) for name, distribution in search_space.items()}


# What a sampler computes incrementally from all ended trials: the search space they have in common, and TPE's memory.
# Independent of the seed; recomputing it would be most of the work for the 10,000th trial.
KNOWLEDGE = ("_search_space", "_intersection_search_space", "memory")


class SamplerCache:
    """Passes cached computations from each sampler of a study to the next."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def __call__(self, sampler: optuna.samplers.BaseSampler) -> None:
        for name in KNOWLEDGE:
            if hasattr(sampler, name):
                setattr(sampler, name, self._kept.setdefault(name, getattr(sampler, name)))
