"""Help for every parameter of an experiment, from its classes' docstrings: as text, or as a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from jsonargparse import DefaultHelpFormatter
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser

from studies.common.class_paths import import_class
from studies.trial.arguments import REFUSED

WIDE = 1_000_000  # characters: a parameter's help stays in one line
OPTION = re.compile(r"  --([\w.]+)[ ,].*?(?:\n {10,}|  +)(\S.*)$", re.MULTILINE)
FILLED = {"optimizer": ("params",), "lr_scheduler": ("optimizer",)}  # what Lightning passes itself
VALUE = re.compile(r"(.*?)\s*\((required, )?type: (.*?)(?:, default: (.*?))?(?:, known subclasses: .*)?\)$")


class _OneLine(DefaultHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDE)


def help_of(experiment: dict[str, Any]) -> str:
    """The part of `harness train NAME --help` about the parameters of all sections."""
    texts = []
    for section, cls, parser in _parsers(experiment):
        lines = parser.format_help().split("\n")
        noise = re.compile(r"usage:|\s+\[--| +--\w+\.help| +--\w+ CONFIG|options:")
        body = [line for line in lines if not noise.match(line)]
        texts.append(f"{cls.__module__}.{cls.__qualname__} (--{section}.NAME VALUE)\n" + "\n".join(body).strip())
    return "\n\n".join(texts)


def parameters_of(experiment: dict[str, Any]) -> list[dict[str, Any]]:
    """The same parameters as a list, each with `name`, `type`, `default`, `required` and `help`.

    `default` is the experiment's value, or the signature's, as YAML; None if there is none.
    """
    found = []
    for section, _, parser in _parsers(experiment):
        parser.formatter_class = _OneLine
        for name, text in OPTION.findall(parser.format_help()):
            match = VALUE.match(text)
            if match is not None and name.startswith(f"{section}."):
                help_text, required, kind, default = match.groups()
                found.append(
                    {"name": name, "type": kind, "default": default, "required": bool(required), "help": help_text}
                )
    return found


def _parsers(experiment: dict[str, Any]) -> Iterator[tuple[str, type, LightningArgumentParser]]:
    """Each section's name, class, and a parser with the experiment's values as defaults."""
    for section in ("model", "data", "trainer", "optimizer", "lr_scheduler"):
        if experiment.get(section) is None:
            continue
        cls = Trainer if section == "trainer" else _class_of(section, experiment[section]["class_path"])
        skip: set[str | int] = set(REFUSED) if section == "trainer" else set(FILLED.get(section, ()))
        parser = LightningArgumentParser(description="", exit_on_error=False, add_help=False)
        parser.add_class_arguments(cls, section, fail_untyped=False, instantiate=False, sub_configs=True, skip=skip)
        values = experiment["trainer"] if section == "trainer" else experiment[section].get("init_args") or {}
        parser.set_defaults({f"{section}.{name}": value for name, value in values.items() if name not in skip})
        yield section, cls, parser


def _class_of(section: str, class_path: str) -> type:
    """A section's class, by its dotted path or by the short name of one of PyTorch's optimizers or schedulers."""
    home = {"optimizer": torch.optim, "lr_scheduler": torch.optim.lr_scheduler}.get(section)
    known = getattr(home, class_path, None)
    return known if isinstance(known, type) else import_class(class_path)
