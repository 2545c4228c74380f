"""Parses the sections of an experiment as LightningCLI does, with jsonargparse, from signatures and docstrings.

It imports the user's classes, so the driver never imports this module: it runs in a trial process and in
`harness train NAME --help`.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LRSchedulerTypeTuple
from torch.optim import Optimizer

from studies.common.class_paths import import_class
from studies.common.suggestions import did_you_mean
from studies.config.parameters import flat_parameters
from studies.trial.parser_errors import one_line
from studies.trial.trainer_arguments import REFUSED, TRAINER_PARAMETERS, check_durations, new_parser, trainer_parser

BASES: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}


@dataclass
class Parsed:
    """A parsed section: `config` is jsonargparse's, under the section's name; `parser` instantiates and dumps it."""

    section: str
    parser: LightningArgumentParser
    config: Namespace
    cls: Any = None  # the class, if the section is a single object

    def instantiated(self) -> Any:
        """The section with its objects instantiated: the module, or the Trainer's arguments."""
        made = self.parser.instantiate(self.config).get(self.section)
        if made is None:  # nothing to set
            return Namespace() if self.cls is None else self.cls()
        return made


def parse_section(section: str, content: dict[str, Any]) -> Parsed:
    """Parses one section: types converted, defaults filled in, nested classes resolved.

    Args:
        section: "model", "data", "trainer", "optimizer" or "lr_scheduler".
        content: the section as written.

    Raises:
        ValueError: one line that names the parameter, the expected type and the value.
    """
    if section == "trainer":
        return _parse_trainer(content)
    cls = _class_of(section, content)
    if section in BASES and isinstance(cls, type) and not content.get("dict_kwargs"):
        # A parser of this class's arguments has more precise errors than a subclass-mode parser.
        parser, allowed = _class_parser(cls, section)
        given = content.get("init_args") or {}
        _check_names(section, given, allowed)
        return _parsed(section, parser, given, cls, given)
    return _parsed(section, _subclass_parser(section), content, cls, content.get("init_args") or {})


def _class_of(section: str, content: dict[str, Any]) -> Any:
    """The class of a section; None if it is a short name, which only jsonargparse can resolve.

    Raises:
        ValueError: it cannot be imported, or has the wrong base class.
    """
    class_path = content["class_path"]
    if "." not in class_path:
        return None
    try:
        cls = import_class(class_path)
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error
    base = BASES.get(section)
    if base is not None and isinstance(cls, type) and not issubclass(cls, base):
        raise ValueError(f"{section}: class_path={class_path!r} is not a {base.__name__}")
    return cls


def _parse_trainer(content: dict[str, Any]) -> Parsed:
    """Parses only the given arguments; the others keep Lightning's defaults."""
    _check_names("trainer", content, TRAINER_PARAMETERS)
    for name, why in REFUSED.items():
        if content.get(name):
            raise ValueError(f"trainer.{name} cannot be set: {why}")
    given = {name: value for name, value in content.items() if name not in REFUSED}
    check_durations(given)
    return _parsed("trainer", trainer_parser(frozenset(given)), given, Trainer, given)


def _parsed(
    section: str, parser: LightningArgumentParser, content: dict[str, Any], cls: Any, given: dict[str, Any]
) -> Parsed:
    made = cls if section in BASES else None
    try:
        # A copy: jsonargparse converts its input in place.
        config = parser.parse_object({section: copy.deepcopy(content)})
        return Parsed(section, parser, config, made)
    except (argparse.ArgumentError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise ValueError(one_line(cls, section, given, str(error))) from error


def _check_names(section: str, given: Iterable[Any], allowed: Iterable[str]) -> None:
    for name in given:
        if name not in allowed:
            raise ValueError(f"unknown parameter {section}.{name}{did_you_mean(str(name), allowed, section + '.')}")


@functools.cache
def _class_parser(cls: type, section: str) -> tuple[LightningArgumentParser, tuple[str, ...]]:
    parser = new_parser()
    added = parser.add_class_arguments(cls, section, fail_untyped=False, sub_configs=True)
    return parser, tuple(name.removeprefix(f"{section}.") for name in added)


@functools.cache
def _subclass_parser(section: str) -> LightningArgumentParser:
    parser = new_parser()
    if section == "optimizer":
        parser.add_optimizer_args((Optimizer,))
    elif section == "lr_scheduler":
        parser.add_lr_scheduler_args(LRSchedulerTypeTuple)
    else:
        parser.add_lightning_class_args(BASES[section], section, subclass_mode=True)  # type: ignore[arg-type]
    return parser


def dumped(sections: dict[str, Any]) -> dict[str, Any]:
    """All parameters under their dotted names (see flat_parameters), with defaults, as the parser writes them.

    An object that the parser cannot serialize becomes a text that says so; the result is never parsed again.
    """
    shown: dict[str, Any] = {}
    for section, content in sections.items():
        if content is None:
            continue
        parsed = parse_section(section, content)
        text = parsed.parser.dump(parsed.config, format="json", skip_none=False, skip_validation=True)
        shown[section] = json.loads(text).get(section) or {}
        if section != "trainer" and "class_path" not in shown[section]:
            shown[section] = {"class_path": content["class_path"], "init_args": shown[section]}
    return flat_parameters({"trainer": {}, **shown})
