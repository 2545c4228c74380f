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
from studies.common.errors import in_one_line
from studies.config.checks import SAMPLERS
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
    """Creates a sampler, one of checks.SAMPLERS (gp imports torch; grid points are enqueued as trials).

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
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
    }
    return others[name](seed) if others and name in others else samplers[name]()


ONE_OBJECTIVE = ("cmaes",)  # samplers that search by one metric only


def check_several(sampler: str | dict[str, Any], objectives: int) -> None:
    """Checks that a sampler can search by several objectives: one of the user's draws for a study in memory.

    Raises:
        ValueError: it cannot; the message names those that can.
    """
    wrong: str | None = f"sampler {sampler}" if sampler in ONE_OBJECTIVE else None
    if isinstance(sampler, dict):
        study = optuna.create_study(directions=["minimize"] * objectives, sampler=make_sampler(sampler, 0))
        try:
            study.ask({"x": FloatDistribution(0.0, 1.0)})
        except Exception as error:
            wrong = f"sampler {sampler['class_path']}: {in_one_line(error)}; it"
    if wrong is not None:
        able = ", ".join(name for name in SAMPLERS if name not in ONE_OBJECTIVE)
        raise ValueError(f"{wrong} searches by one metric, but there are {objectives} (allowed: {able})")


def make_pruner(name: str | dict[str, Any], reports: int | None) -> optuna.pruners.BasePruner:
    """Creates a pruner: none | median | hyperband | asha.

    Args:
        name: a name, or {class_path, init_args} of a BasePruner.
        reports: number of values that a complete trial reports (validations), or None if unknown.
    """
    if isinstance(name, dict):
        return _with_brackets(_own(name, "pruner", optuna.pruners.BasePruner))
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=reports or "auto"),
        # Short trials (5 epochs) need several rungs, too: a reduction factor of 2 instead of the default 4.
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    return _with_brackets(pruners[name]())


def _with_brackets(pruner: optuna.pruners.BasePruner) -> optuna.pruners.BasePruner:
    """Has Hyperband make its brackets now, if it knows the number of reports, and not at the first report.

    Samplers see only trials of their own trial's bracket, so what they draw would depend on restarts.
    """
    if isinstance(pruner, optuna.pruners.HyperbandPruner):
        optuna.create_study(pruner=pruner).ask().should_prune()
    return pruner


def _own(named: dict[str, Any], what: str, base: type, **offered: Any) -> Any:
    made = instance_of(named, **offered)
    if not isinstance(made, base):
        raise ValueError(f"{what} must be a class of optuna's {base.__name__}, but got {named['class_path']}")
    return made


def distribution_of(parameter: Range | Choice) -> BaseDistribution:
    """The Optuna distribution of a parameter."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution([encode_choice(value) for value in parameter.values])
    if parameter.is_integer:
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value, as Optuna stores it, is one of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return any(choice == value and type(choice) is type(value) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return abs(steps - round(steps)) < 1e-8


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
