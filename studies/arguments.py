"""Types and help of a class's parameters, by jsonargparse, from its signature and docstring.

Imports what it describes, so the driver never imports this: it runs in a warm trial process, and in
`harness train NAME --help`.
"""

from __future__ import annotations

import argparse
import json
import re
import typing
from typing import Any, Literal

from jsonargparse import ArgumentParser
from pytorch_lightning import Trainer

from studies.components import import_class, parameters_of
from studies.nearest import nearest

# What the harness decides itself; everything else of the Trainer is the user's.
OURS = {
    "default_root_dir",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "fast_dev_run",
    "barebones",
}


def parser_of(cls: type, section: str, skip: set[str]) -> ArgumentParser:
    """A parser whose keys are `section`.PARAMETER for each parameter of the class's constructor."""
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_class_arguments(cls, section, skip=skip & parameters_of(cls))
    return parser


def typed(cls: type, section: str, values: dict[str, Any], skip: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """All parameters of a class with their defaults, `values` put in and converted to their declared types.

    Args:
        cls: the class whose constructor is meant.
        section: "model", "data" or "trainer"; names the key in messages.
        values: parameter name -> value as YAML or the command line gave it.
        skip: parameters that are not the user's to set and are left out of the result.

    Raises:
        ValueError: in one line, for an unknown name (with the nearest right one) or a value of another type.
    """
    allowed = parameters_of(cls) - skip
    open_ended = "kwargs" in allowed  # names passed on to somebody else: jsonargparse follows them
    for name in values:
        if name not in allowed and not open_ended:
            raise ValueError(f"unknown parameter {section}.{name}{nearest(name, allowed, section + '.')}")
    parser = parser_of(cls, section, skip)
    try:
        config = parser.parse_object({section: values})
    except (argparse.ArgumentError, ValueError, TypeError, KeyError) as error:
        raise ValueError(_one_line(cls, section, values, str(error))) from error
    return json.loads(parser.dump(config, format="json", skip_none=False)).get(section, {})


def typed_trainer(values: dict[str, Any]) -> dict[str, Any]:
    """The trainer's parameters that were given, typed; Lightning's defaults stay Lightning's."""
    taken = sorted(OURS & set(values))
    if taken:
        raise ValueError(f"trainer.{taken[0]} is decided by the harness and cannot be set")
    resolved = typed(Trainer, "trainer", values, OURS)
    return {name: resolved[name] for name in values}


def _one_line(cls: type, section: str, values: dict[str, Any], message: str) -> str:
    match = re.search(rf'"{section}\.([\w.]+)"', message)
    name = match.group(1).split(".")[0] if match else ""
    if name in values:
        return f"{section}.{name} must be {_expected(cls, name, values[name])}, but got {values[name]!r}"
    required = re.search(rf"{section}\.(\w+)", message)
    if "required" in message and required:
        return f"{section}.{required.group(1)} is required by {cls.__name__} and has no default"
    return f"{section}: " + " ".join(message.split())


def _expected(cls: type, name: str, value: Any) -> str:
    """Words for the declared type of a parameter; the choices, and the nearest one, where it is a Literal."""
    hint = typing.get_type_hints(cls.__init__).get(name)  # type: ignore[misc]
    literals = [hint, *typing.get_args(hint)]
    choices = [
        str(choice) for item in literals if typing.get_origin(item) is Literal for choice in typing.get_args(item)
    ]
    if choices:
        return " | ".join(choices) + nearest(str(value), choices)
    words = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return words.replace("typing.", "").replace("NoneType", "None")


def help_of(experiment: dict[str, Any]) -> str:
    """What `harness train NAME --help` shows of the module's, datamodule's and trainer's parameters."""
    texts = []
    for section in ("model", "data", "trainer"):
        cls = Trainer if section == "trainer" else import_class(experiment[section]["class_path"])
        parser = parser_of(cls, section, OURS if section == "trainer" else set())
        values = experiment["trainer"] if section == "trainer" else experiment[section].get("init_args", {})
        parser.set_defaults({f"{section}.{name}": value for name, value in values.items()})
        lines = parser.format_help().split("\n")
        body = [line for line in lines if not re.match(r"^(usage:|\s+\[--| +--\w+\.help|options:)", line)]
        texts.append(f"{cls.__module__}.{cls.__qualname__} (--{section}.NAME VALUE)\n" + "\n".join(body).strip())
    return "\n\n".join(texts)
