"""Types as people write them: "a number", "a list of integers or null" instead of Union[int, float], Optional[...]."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import inspect
import os
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

# Type -> one of it, several of it.
PLAIN: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    complex: ("a complex number", "complex numbers"),
    str: ("a text", "texts"),
    bytes: ("bytes", "bytes"),
    type(None): ("null", "null"),
    Any: ("any value", "any values"),
    object: ("any value", "any values"),
    Path: ("a path", "paths"),
    os.PathLike: ("a path", "paths"),
    datetime.timedelta: ("a duration", "durations"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    set: ("a list", "lists"),
    dict: ("a mapping", "mappings"),
}
LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def in_words(hint: Any) -> str:
    """What a parameter of a type takes, as it is written in a YAML file or on the command line."""
    return _or([one for one, _ in _kinds(hint)])


def choices_of(hint: Any) -> list[str]:
    """The texts among which a value is chosen, if any: of Literals and enumerations."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [member.name for member in hint]
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    return [choice for item in get_args(hint) for choice in choices_of(item)] if _is_union(hint) else []


def classes_of(hint: Any) -> list[type]:
    """The classes of which a value may be an instance, given by class_path."""
    if get_origin(hint) is collections.abc.Callable and len(get_args(hint)) == 2:
        return classes_of(get_args(hint)[1])
    if _is_union(hint) or get_origin(hint) in LISTS:
        return [cls for item in get_args(hint) for cls in classes_of(item)]
    return [hint] if isinstance(hint, type) and hint not in PLAIN and not issubclass(hint, enum.Enum) else []


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (typing.Union, types.UnionType)


def _kinds(hint: Any) -> list[tuple[str, str]]:
    """The alternatives of a type, each as one of it and several of it."""
    if _is_union(hint):
        alternatives = list(dict.fromkeys(kind for item in get_args(hint) for kind in _kinds(item)))
        if PLAIN[float] in alternatives and PLAIN[int] in alternatives:  # an integer is a number
            alternatives.remove(PLAIN[int])
        null = PLAIN[type(None)]
        return [kind for kind in alternatives if kind != null] + [null] * (null in alternatives)
    choices = choices_of(hint)
    if choices:
        return [(choice, choice) for choice in dict.fromkeys(choices)]
    return [_single(hint)]


def _single(hint: Any) -> tuple[str, str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _single(arguments[0])
    if origin in LISTS:
        return _listed(origin, arguments)
    if origin in MAPPINGS and len(arguments) == 2:
        key, value = (_or([several for _, several in _kinds(item)]) for item in arguments)
        return f"a mapping of {key} to {value}", f"mappings of {key} to {value}"
    if origin is type:
        return f"a class derived from {_name(arguments[0])}", f"classes derived from {_name(arguments[0])}"
    if origin is collections.abc.Callable or hint in (typing.Callable, collections.abc.Callable):
        made = arguments[1] if len(arguments) == 2 else None
        if isinstance(made, type) and made not in PLAIN:
            return f"a class_path of {_article(_name(made))}", f"class_paths of {_name(made)}s"
        return "the dotted path of a function or class", "dotted paths of functions or classes"
    if hint in PLAIN:
        return PLAIN[hint]
    fields = _fields(hint)
    if fields:
        return f"a mapping with {', '.join(fields)}", f"mappings with {', '.join(fields)}"
    name = _name(hint)
    return _article(name), f"{name}s"


def _listed(origin: Any, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """A list of any length; of a tuple of fixed length, with that length or with what stands at each place."""
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        several = {_or([each for _, each in _kinds(item)]) for item in arguments}
        if len(several) > 1:
            places = ", ".join(in_words(item) for item in arguments)
            return f"a list of {len(arguments)}: {places}", f"lists of {len(arguments)}: {places}"
        return f"a list of {len(arguments)} {several.copy().pop()}", f"lists of {len(arguments)} {several.pop()}"
    items = _or([each for _, each in _kinds(arguments[0])]) if arguments else ""
    return (f"a list of {items}", f"lists of {items}") if items else PLAIN[list]


def _fields(hint: Any) -> list[str]:
    """The keys of a dataclass, a named tuple or a TypedDict."""
    if dataclasses.is_dataclass(hint):
        return [item.name for item in dataclasses.fields(hint)]
    return list(getattr(hint, "_fields", ())) or (list(hint.__annotations__) if typing.is_typeddict(hint) else [])


def _name(hint: Any) -> str:
    if isinstance(hint, type):
        return hint.__name__
    return inspect.formatannotation(hint).replace("typing.", "").rpartition(".")[2].lstrip("~")


def _article(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _or(words: list[str]) -> str:
    """Alternatives as one phrase: a, b or c."""
    if len(words) > 1 and "true or false" in words:
        at = words.index("true or false")
        words = [*words[:at], "true", "false", *words[at + 1 :]]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
