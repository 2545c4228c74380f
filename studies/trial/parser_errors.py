"""Turns jsonargparse's errors into one line that names the parameter, what it accepts and the closest spelling."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from studies.common.class_paths import import_class
from studies.common.suggestions import did_you_mean
from studies.trial.type_words import choices_of, classes_of, in_words

SHORT_NAMED: dict[str, type] = {"optimizer": Optimizer, "lr_scheduler": LRScheduler}  # sections of PyTorch's classes


def one_line(cls: Any, section: str, given: dict[str, Any], message: str) -> str:
    """Reduces jsonargparse's message, which may be a page long, to one line that names the parameter."""
    keys = re.findall(r'[Pp]arser key "([\w.\[\]-]+)"', message)
    way = ".".join(dict.fromkeys(key.removeprefix(f"{section}.") for key in keys if key != section))
    refused = re.search(r"[Oo]ption '([^']+)' is not accepted", message)
    if refused:
        owner = re.findall(r"Problem with given class_path '([^']+)'", message)
        where = f"{section}.{way}.init_args" if way else section
        return f"unknown parameter {where}.{refused.group(1)}{_nearest_of(owner, refused.group(1))}"
    unknown = re.search(r"import path string: (\S+)", message) if not way and section in SHORT_NAMED else None
    if unknown:
        return f"unknown {section} {unknown[1]}{_nearest(unknown[1], SHORT_NAMED[section])}"
    found = _wrong_value(cls, section, way, given, message)
    if found is not None:
        return found
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


def _wrong_value(cls: Any, section: str, way: str, given: dict[str, Any], message: str) -> str | None:
    """The line about a value of the wrong type, or None if its type is not known.

    Args:
        way: the parameter's name below its section; names of nested classes' parameters are joined by dots.
    """
    owners = re.findall(r"Problem with given class_path '([^']+)'", message)
    name = way.rpartition(".")[2]
    given_text = re.findall(r"Got value: (.*)", message) + re.findall(r"import path string: (\S+)", message)
    told = f", but got {given_text[-1].strip()}" if given_text else ""
    if way in given:
        hint, told = _hint(cls, name), f", but got {given[way]!r}"
        value = given[way]
    else:
        hint, value = _hint(_imported(owners), name) if owners and name else None, ""
    if hint is None:
        names = [item for item in re.findall(r"Expected a <class '(\w+)'>", message) if item in BUILT_IN]
        if not way or not names or names == ["NoneType"]:
            return None
        hint = BUILT_IN[next(item for item in names if item != "NoneType")]
    return f"{section}.{way} must be {in_words(hint)}{told}{_nearest(value, hint)}"


BUILT_IN: dict[str, Any] = {cls.__name__: cls for cls in (bool, int, float, str, list, dict, tuple, type(None))}


def _imported(owners: list[str]) -> Any:
    try:
        return import_class(owners[-1])
    except ValueError:
        return None


def _hint(cls: Any, name: str) -> Any:
    """A parameter's declared type, or None if there is none, or one that only type checkers can resolve."""
    try:
        return typing.get_type_hints(cls.__init__).get(name)
    except Exception:  # an annotation may name anything
        return None


def _nearest(value: Any, hint: Any) -> str:
    """Suggests the closest choice of an enumeration, or subclass of a class, for a text."""
    names = choices_of(hint) or [name for cls in classes_of(hint) for name in _subclasses(cls)]
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def _subclasses(cls: type) -> set[str]:
    """The names of all classes derived from one that are imported so far."""
    found: set[str] = set()
    derived: list[type] = cls.__subclasses__()
    for item in derived:
        found |= {item.__name__} | _subclasses(item)
    return found
