"""Checks values of experiment files and options: each error names the value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.common.suggestions import did_you_mean
from studies.config.parameters import CLASS_KEYS

SAMPLERS = ("random", "grid", "tpe", "gp", "cmaes", "nsga2")
PRUNERS = ("none", "median", "hyperband", "asha")
DIRECTIONS = ("maximize", "minimize")
EXECUTORS = ("local", "inline", "ray")


def class_section(section: Any, name: str) -> dict[str, Any]:
    check_keys(section, name, CLASS_KEYS)
    if not isinstance(section.get("class_path"), str):
        raise ValueError(f"{name}.class_path must be a dotted path of a class, such as lightning_modules.MLP")
    for key in ("init_args", "dict_kwargs"):
        arguments = section.get(key) or {}
        if not isinstance(arguments, Mapping):
            raise ValueError(f"{name}.{key} must map parameters to values, but got {arguments!r}")
        section[key] = dict(arguments)
    if not section["dict_kwargs"]:
        del section["dict_kwargs"]
    return dict(section)


def check_keys(content: Any, where: str, allowed: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must map names to values ({', '.join(allowed)}), but got {content!r:.80}")
    for key in content:
        if key not in allowed:
            raise ValueError(f"unknown key {key!r} in {where}{did_you_mean(str(key), allowed)}")


def one_of(what: str, value: Any, allowed: tuple[str, ...]) -> str:
    """The value, if it is one of the allowed names; else a ValueError with the nearest."""
    if value not in allowed:
        raise ValueError(f"unknown {what} {value}{did_you_mean(str(value), allowed)}")
    return str(value)


def named(what: str, value: Any, names: tuple[str, ...]) -> str | dict[str, Any]:
    """One of the names, or a user's class by dotted path or {class_path, init_args}."""
    if isinstance(value, dict):
        return class_section(value, what)
    if isinstance(value, str) and "." in value:
        return {"class_path": value, "init_args": {}}
    return one_of(what, value, names)


def checked_seed(value: Any) -> int:
    """The value, if it is a whole number from 0 to 2**31 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"seed must be a whole number between 0 and 2147483647, but got seed={value!r}")
    return value
