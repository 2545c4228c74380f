"""What a study's space may become: ranges may change and choices be added; what really conflicts is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from studies.config.search_space import Choice, Range, Space, parse_space


def space_changes(study: str, before: Any, now: Any) -> list[str]:
    """The parameters that differ between two spaces, as written, each in a few words.

    Raises:
        ValueError: in one line: a parameter is new or gone, has another kind or scale, or has lost a choice.
    """
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        raise _conflict(study, f"it has {_text(before)}, but got {_text(now)}")
    old, new = parse_space(before), parse_space(now)
    for name in {**old, **new}:
        if name not in old or name not in new:
            has, got = (_text(_written(space, name)) for space in (old, new))
            raise _conflict(study, f"a parameter cannot be added or removed: {name} is {has}, but got {got}")
    found = []
    for name in old:
        was, got = _text(_written(old, name)), _text(_written(new, name))
        if was == got:  # unlike ==, tells 1 from 1.0 and from true
            continue
        why = _why_not(old[name], new[name])
        if why is not None:
            raise _conflict(study, f"{name} is {was}, but got {got}: {why}")
        found.append(f"{name} is {got} instead of {was}")
    return found


def _why_not(old: Range | Choice, new: Range | Choice) -> str | None:
    """Why a parameter cannot change like this, or None if it can."""
    if isinstance(old, Choice) and isinstance(new, Choice):
        gone = [value for value in old.values if not any(_same(value, other) for other in new.values)]
        return f"{_text(gone[0])} cannot be removed from a list, only values added" if gone else None
    if isinstance(old, Choice) or isinstance(new, Choice):
        return "a list cannot become a range, nor a range a list"
    if old.log != new.log:
        return "log cannot change"
    if old.is_integer != new.is_integer:
        return "whole numbers cannot become fractions, nor fractions whole numbers"
    return None


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _conflict(study: str, what: str) -> ValueError:
    return ValueError(f"study {study} exists with a different space: {what}; give another --study-name")


def _written(space: Space, name: str) -> Any:
    """A parameter as an experiment file has it, or None."""
    parameter = space.get(name)
    if not isinstance(parameter, Range):
        return parameter.values if parameter is not None else None
    more = {"log": True} if parameter.log else {"step": parameter.step} if parameter.step is not None else {}
    return {"low": parameter.low, "high": parameter.high, **more}


def _text(value: Any) -> str:
    if value is None:
        return "not searched"
    return json.dumps(value)
