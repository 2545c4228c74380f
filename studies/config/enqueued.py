"""Values that a user wants a trial to have: `--enqueue name=value,...`, checked against the search space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from studies.common.suggestions import did_you_mean
from studies.config.search_space import Choice, Range, Space, canonical_name
from studies.config.yaml_io import load_yaml


def assignments(text: str) -> dict[str, Any]:
    """The values of `name=value,name=value`, by dotted name; values are YAML, such as [32, 16].

    Raises:
        ValueError: in one line: it is not of this form, or a parameter is given twice.
    """
    found: dict[str, Any] = {}
    for pair in re.split(r",\s*(?=[A-Za-z_][\w.]*=)", text):
        name, sign, value = pair.partition("=")
        name = canonical_name(name.strip())
        if not sign or not name:
            raise ValueError(f"enqueue must be NAME=VALUE,NAME=VALUE, but got enqueue={text!r}")
        if name in found:
            raise ValueError(f"enqueue has {name} twice: {text!r}")
        try:
            found[name] = load_yaml(value)
        except yaml.YAMLError as error:
            raise ValueError(f"enqueue: {name}={value}: broken YAML: {getattr(error, 'problem', error)}") from error
    return found


def check_enqueued(values: Mapping[str, Any], space: Space | str) -> dict[str, Any]:
    """The values as the search space has them.

    Raises:
        ValueError: in one line: the space is a function, lacks a parameter, or does not contain a value.
    """
    if isinstance(space, str):
        raise ValueError(f"enqueue needs a space that lists its parameters, but space is the function {space}")
    found = {}
    for name, value in values.items():
        if name not in space:
            raise ValueError(f"enqueue: unknown parameter {name}{did_you_mean(name, space)}")
        found[name] = _contained(name, value, space[name])
    return found


def _contained(name: str, value: Any, parameter: Range | Choice) -> Any:
    if isinstance(parameter, Choice):
        for choice in parameter.values:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        raise ValueError(f"enqueue: {name} must be one of {parameter.values}, but got {value!r}")
    low, high, step = parameter.low, parameter.high, parameter.step
    kind = "a whole number" if parameter.is_integer else "a number"
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if right and parameter.is_integer:
        right = float(value).is_integer()
    if right and step is not None:
        right = abs((value - low) / step - round((value - low) / step)) < 1e-8
    if not right:
        steps = f" in steps of {step}" if step is not None else ""
        raise ValueError(f"enqueue: {name} must be {kind} from {low} to {high}{steps}, but got {value!r}")
    return int(value) if parameter.is_integer else float(value)
