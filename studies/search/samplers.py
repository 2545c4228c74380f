"""Samplers and pruners by name, and their seeds.

Each trial gets a new sampler, seeded by (study seed, trial number): with random and grid, a trial's parameters depend
on nothing else, so restarts and the number of workers change nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.common.class_paths import instance_of
from studies.config.search_space import Choice, Range, encode_choice


def derive_seed(seed: int, number: int, purpose: str) -> int:
    """The seed of a study's n-th trial, between 0 and 2**31 - 1; depends only on (study seed, number, purpose).

    `purpose` separates independent uses: "sampler" for its parameters, "training" for its weights and samples.
    """
    digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class ByName(optuna.samplers.RandomSampler):
    """Random search in which a parameter's value depends only on (seed, its name), not on earlier draws.

    So if a driver dies between two parameters of a trial, the next driver draws the same values.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        sampler = optuna.samplers.RandomSampler(derive_seed(self._seed, 0, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


MakeSampler = Callable[[int], optuna.samplers.BaseSampler]


def make_sampler(
    name: str | dict[str, Any], seed: int, others: Mapping[str, MakeSampler] | None = None
) -> optuna.samplers.BaseSampler:
    """Creates a sampler: random | grid | tpe | gp | cmaes (gp imports torch; grid points are enqueued as trials).

    Args:
        name: a name, or {class_path, init_args} of a BaseSampler; its parameter `seed`, if any, is set.
        others: name -> factory that replaces Optuna's sampler.

    Raises:
        ValueError: not such a class, or it cannot be instantiated.
    """
    if isinstance(name, dict):
        return _own(name, "sampler", optuna.samplers.BaseSampler, seed=seed)
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: ByName(seed),
        "grid": lambda: ByName(seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
    }
    return others[name](seed) if others and name in others else samplers[name]()


def make_pruner(name: str | dict[str, Any], reports: int | None) -> optuna.pruners.BasePruner:
    """Creates a pruner: none | median | hyperband | asha.

    Args:
        name: a name, or {class_path, init_args} of a BasePruner.
        reports: number of values that a complete trial reports (validations), or None if unknown.
    """
    if isinstance(name, dict):
        return _own(name, "pruner", optuna.pruners.BasePruner)
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=reports or "auto"),
        # Short trials (5 epochs) need several rungs, too: a reduction factor of 2 instead of the default 4.
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    return pruners[name]()


def _own(named: dict[str, Any], what: str, base: type, **offered: Any) -> Any:
    made = instance_of(named, **offered)
    if not isinstance(made, base):
        raise ValueError(f"{what} must be a class of optuna's {base.__name__}, but got {named['class_path']}")
    return made


def distribution_of(parameter: Range | Choice) -> BaseDistribution:
    """The Optuna distribution of a parameter."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution([encode_choice(value) for value in parameter.values])
    if parameter.whole and (parameter.step is None or isinstance(parameter.step, int)):
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Draws a parameter of a trial, or returns its value if it has been drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
