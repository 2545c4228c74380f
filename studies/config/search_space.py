"""The search space of an experiment file: parsing, checks and limits. Independent of the search library."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studies.common.suggestions import did_you_mean

SECTIONS = ("model", "data", "trainer", "optimizer", "lr_scheduler", "function")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both ends included; whole numbers if both ends are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def is_integer(self) -> bool:
        """Whether all its values are whole numbers: a step may be a fraction."""
        return self.whole and (self.step is None or isinstance(self.step, int))

    @property
    def ends(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def points(self) -> list[Any] | None:
        """The grid's points along this parameter, or None if there are infinitely many."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        return [self.low + i * step for i in range(count)]


@dataclass(frozen=True)
class Choice:
    """One of a list of values, of any YAML type (lists too)."""

    values: list[Any]

    @property
    def ends(self) -> list[Any]:
        """Values to check: the smallest and largest number, else every value."""
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values):
            return sorted({min(self.values), max(self.values)})
        return self.values

    @property
    def points(self) -> list[Any]:
        return self.values


Space = dict[str, Range | Choice]


SEEDS = ("seed", "seed_everything", "random_seed", "random_state")  # last parts of names that no space may contain


def parse_space(mapping: Any) -> Space:
    """Reads `space:` of an experiment file: dotted parameter name -> {low, high, log, step} or a list of values.

    Raises:
        ValueError: in one line, naming the parameter and what is wrong with it.
    """
    if not isinstance(mapping, Mapping) or not mapping:
        raise ValueError(f"space must map parameters to ranges or lists, but got space={mapping!r}")
    space = {canonical_name(str(name)): _parameter(name, value) for name, value in mapping.items()}
    if len(space) < len(mapping):
        raise ValueError("space: a parameter is given twice, once with init_args and once without")
    return space


def canonical_name(name: str) -> str:
    """A parameter's name in MLflow and Optuna: model.init_args.rate is model.rate."""
    section, _, way = name.partition(".")
    return f"{section}.{way.removeprefix('init_args.')}" if section != "trainer" else name


def _parameter(name: Any, value: Any) -> Range | Choice:
    if str(name).rpartition(".")[2] in SEEDS:
        raise ValueError(
            f"space: {name} is a seed, and the best of several seeds is luck: search.seeds: 3 scores each point by "
            "several, and `harness train --seeds 5` shows their spread"
        )
    section, _, parameter = str(name).partition(".")
    if section not in SECTIONS or not parameter:
        sections = ", ".join(f"{item}." for item in SECTIONS)
        raise ValueError(f"space: {name!r} must start with one of {sections}{did_you_mean(section, SECTIONS)}")
    if isinstance(value, list):
        if len(value) < 1 or any(value.count(item) > 1 for item in value):
            raise ValueError(f"space: {name} must list one or more distinct values, but got {value!r}")
        return Choice(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"space: {name} must be a list or {{low, high, log, step}}, but got {value!r}")
    for key in value:
        if key not in ("low", "high", "log", "step"):
            raise ValueError(
                f"space: {name}: unknown key {key}{did_you_mean(str(key), ('low', 'high', 'log', 'step'))}"
            )
    low, high = _number(name, "low", value), _number(name, "high", value)
    log, step = value.get("log", False), value.get("step")
    if not low < high:
        raise ValueError(f"space: {name}: low must be below high, but got {low=} and {high=}")
    if not isinstance(log, bool):
        raise ValueError(f"space: {name}: log must be true or false, but got {log=}")
    if log and low <= 0:
        raise ValueError(f"space: {name}: low must be above 0 if log is true, but got {low=}")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | float) or step <= 0 or log):
        raise ValueError(f"space: {name}: step must be a number above 0, without log, but got {step=} and {log=}")
    return Range(low, high, log, step)


def _number(name: Any, key: str, value: Mapping[str, Any]) -> float:
    number = value.get(key)
    if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
        raise ValueError(f"space: {name}: {key} must be a number, but got {key}={number!r}")
    return number


def grid_of(space: Space, seed: int) -> list[dict[str, Any]]:
    """All points of the grid, in an order determined by the seed.

    Raises:
        ValueError: a parameter has infinitely many values.
    """
    axes = []
    for name, parameter in space.items():
        points = parameter.points
        if points is None:
            raise ValueError(f"space: the grid sampler needs a list or a step for {name}, which has neither")
        axes.append([(name, point) for point in points])
    grid = [dict(point) for point in itertools.product(*axes)]
    random.Random(seed).shuffle(grid)
    return grid


def encode_choice(value: Any) -> Any:
    """Encodes a value for search storages: lists and mappings become JSON text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def decode_choice(choice: Choice, encoded: Any) -> Any:
    """Inverse of encode_choice, for a value of that choice."""
    return next(value for value in choice.values if encode_choice(value) == encoded)
