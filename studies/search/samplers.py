"""Samplers and pruners by name, and the seeds they draw from.

A sampler is made anew for each trial from (study seed, trial number): under random and grid a trial's parameters
depend on nothing else, so restarts and the number of workers change nothing.
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
    """A seed of a study's n-th trial: between 0 and 2**31 - 1, a function of (study seed, number, purpose) alone.

    `purpose` keeps the draws apart: "sampler" for its parameters, "training" for its weights and samples.
    """
    digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class ByName(optuna.samplers.RandomSampler):
    """Random search in which a parameter's value depends on (seed, its name) alone, not on what was drawn before.

    So a trial whose driver died between two of its parameters gets from the next driver what it would have got.
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
    """A fresh sampler: random | grid | tpe | gp | cmaes (gp imports torch; grid's points are enqueued).

    Args:
        name: or {class_path, init_args} of a class of BaseSampler; a parameter `seed` gets the seed.
        others: makes some of them in another way.

    Raises:
        ValueError: it is no such class, or cannot be made.
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
    """A pruner: none | median | hyperband | asha.

    Args:
        name: or {class_path, init_args} of a class of BasePruner.
        reports: how many values a whole trial reports (validations), or None if nobody knows.
    """
    if isinstance(name, dict):
        return _own(name, "pruner", optuna.pruners.BasePruner)
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=reports or "auto"),
        # A short trial (5 epochs) still wants rungs: keep one in two rather than the default one in four.
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
    """Draws a parameter of a trial; of one that has it already, the same again."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
