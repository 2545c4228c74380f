"""Turns jsonargparse's errors into one line that names the parameter, what it accepts and the closest spelling."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any, Literal

from studies.common.class_paths import import_class
from studies.common.suggestions import did_you_mean


def one_line(cls: Any, section: str, given: dict[str, Any], message: str) -> str:
    """Reduces jsonargparse's message, which may be a page long, to one line that names the parameter."""
    keys = re.findall(r'[Pp]arser key "([\w.\[\]-]+)"', message)
    way = ".".join(dict.fromkeys(key.removeprefix(f"{section}.") for key in keys if key != section))
    refused = re.search(r"[Oo]ption '([^']+)' is not accepted", message)
    if refused:
        owner = re.findall(r"Problem with given class_path '([^']+)'", message)
        where = f"{section}.{way}.init_args" if way else section
        return f"unknown parameter {where}.{refused.group(1)}{_nearest_of(owner, refused.group(1))}"
    name = way.split(".")[0]
    if name in given and way == name and isinstance(cls, type):
        expected = _expected(cls, name, given[name])
        if expected is not None:
            return f"{section}.{name} must be {expected}, but got {given[name]!r}"
    required = re.search(rf'[Kk]ey "?{section}\.(\w+)"? is required|arguments are required: ([\w., ]+)', message)
    if required:
        wanted = (required.group(1) or required.group(2)).removeprefix(f"{section}.")
        return f"{section}.{wanted} is required by {getattr(cls, '__name__', section)} and has no default"
    reasons = [" ".join(line.split()) for line in message.split("\n")]
    telling = [
        line for line in reasons if line and not line.startswith(("Subtypes", "Given value", "Errors", "Parser"))
    ]
    return f"{section}{'.' + way if way else ''}: {' '.join(telling)}"[:400]


def _nearest_of(owners: list[str], name: str) -> str:
    """Suggests the closest parameter of the innermost class in the message."""
    try:
        return did_you_mean(name, inspect.signature(import_class(owners[-1])).parameters)
    except (IndexError, ValueError, TypeError):
        return ""


def _expected(cls: type, name: str, value: Any) -> str | None:
    """Describes a parameter's declared type; for a Literal, its choices and the closest one."""
    try:
        hint = typing.get_type_hints(cls.__init__).get(name)  # type: ignore[misc]
    except Exception:  # an annotation that only type checkers can resolve
        return None
    if hint is None:
        return None
    literals = [hint, *typing.get_args(hint)]
    choices = [
        str(choice) for item in literals if typing.get_origin(item) is Literal for choice in typing.get_args(item)
    ]
    if choices:
        return " | ".join(choices) + did_you_mean(str(value), choices)
    words = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return words.replace("typing.", "").replace("NoneType", "None")
