"""Parses a section again that differs from the last one in numbers alone, as the trials of a study do in one process.

jsonargparse takes milliseconds for a trial's sections, which shows in trials of a few steps. Where the last section of
the same class was parsed to exactly what was given, and the next one has other numbers of the same types in it, the
parser would give those back as they are: they are put into what it gave. Everything else is parsed. Not used under
`--plain`.
"""

from __future__ import annotations

import copy
from typing import Any

from jsonargparse import Namespace

_LAST: dict[Any, tuple[dict[str, Any], Namespace]] = {}  # parser -> what was given last, and what it made of it


def remember(parser: Any, given: dict[str, Any], parsed: Namespace) -> None:
    """Keeps what a parser made of a section's arguments, if all of it is numbers, text and lists of them."""
    if _is_simple(list(vars(parsed).values())):
        _LAST[id(parser)] = copy.deepcopy(given), parsed


def again(parser: Any, given: dict[str, Any]) -> Namespace | None:
    """What the parser would make of a section's arguments, or None where only it can say."""
    if id(parser) not in _LAST:
        return None
    before, parsed = _LAST[id(parser)]
    if given.keys() != before.keys():
        return None
    values = dict(vars(parsed))
    for name, value in given.items():
        old = before[name]
        if _same(old, value):
            continue
        is_number = type(value) in (int, float) and type(value) is type(old)
        if not is_number or name not in values or not _same(values[name], old):
            return None
        values[name] = value
    return Namespace(**copy.deepcopy(values))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other and (type(one) is not list or all(map(_same, one, other)))


def _is_simple(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_simple, value))
    return value is None or type(value) in (bool, int, float, str)
