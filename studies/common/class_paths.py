"""Imports classes that users name by a dotted path."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from studies.common.suggestions import did_you_mean


def import_class(class_path: str) -> type:
    """Imports the class of a dotted path such as "lightning_modules.MLP".

    Raises:
        ValueError: it cannot be imported; the message says which part, and why.
    """
    module_name, _, name = class_path.rpartition(".")
    if not module_name:
        raise ValueError(f"class_path must be a dotted path such as lightning_modules.MLP, but got {class_path=!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        outer = None if error.name != module_name else _nested(module_name, name)  # a nested class
        if outer is not None:
            return outer
        raise ValueError(f"class_path={class_path!r} does not import: {type(error).__name__}: {error}") from error
    except Exception as error:  # importing user code may raise anything
        raise ValueError(f"class_path={class_path!r} does not import: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        names = [key for key, value in vars(module).items() if callable(value)]
        hint = did_you_mean(name, names, f"{module_name}.")
        file = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise ValueError(f"class_path={class_path!r}: {module_name}{file} has no {name}{hint}") from None


def class_named(section: dict[str, Any]) -> Any:
    """The class of a section's class_path; None if it is a short name, which only jsonargparse can resolve."""
    return import_class(section["class_path"]) if "." in section["class_path"] else None


def _nested(path: str, name: str) -> type | None:
    module_name, _, outer = path.rpartition(".")
    try:
        return getattr(getattr(importlib.import_module(module_name), outer), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError):
        return None


def parameters_of(cls: type) -> set[str]:
    """Names of the parameters of a class's constructor."""
    return set(inspect.signature(cls).parameters)


def instance_of(named: str | dict[str, Any], **offered: Any) -> Any:
    """Instantiates a class given by its path, or by {class_path, init_args}.

    Args:
        offered: arguments that are passed only if the constructor has parameters of these names.

    Raises:
        ValueError: it cannot be imported, or its constructor rejects the arguments.
    """
    section: dict[str, Any] = {"class_path": named} if isinstance(named, str) else named
    cls, given = import_class(section["class_path"]), dict(section.get("init_args") or {})
    known = inspect.signature(cls).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known)
    names = {parameter.name for parameter in known}
    for name in given:
        if name not in names and not takes_any:
            raise ValueError(f"unknown parameter {name} of {section['class_path']}{did_you_mean(name, names)}")
    try:
        return cls(**{name: value for name, value in offered.items() if name in names}, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{section['class_path']} cannot be instantiated: {' '.join(str(error).split())}") from error
