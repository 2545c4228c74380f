"""Help for every parameter of an experiment, from its classes' docstrings."""

from __future__ import annotations

import re
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser

from studies.common.class_paths import import_class
from studies.trial.arguments import REFUSED


def help_of(experiment: dict[str, Any]) -> str:
    """The part of `harness train NAME --help` about the module's, datamodule's and trainer's parameters."""
    texts = []
    for section in ("model", "data", "trainer"):
        if experiment.get(section) is None:
            continue
        cls = Trainer if section == "trainer" else import_class(experiment[section]["class_path"])
        skip: set[str | int] = set(REFUSED) if section == "trainer" else set()
        parser = LightningArgumentParser(description="", exit_on_error=False, add_help=False)
        parser.add_class_arguments(cls, section, fail_untyped=False, instantiate=False, sub_configs=True, skip=skip)
        values = experiment["trainer"] if section == "trainer" else experiment[section].get("init_args") or {}
        known = {f"{section}.{name}": value for name, value in values.items() if name not in skip}
        parser.set_defaults(known)
        lines = parser.format_help().split("\n")
        noise = re.compile(r"usage:|\s+\[--| +--\w+\.help| +--\w+ CONFIG|options:")
        body = [line for line in lines if not noise.match(line)]
        texts.append(f"{cls.__module__}.{cls.__qualname__} (--{section}.NAME VALUE)\n" + "\n".join(body).strip())
    return "\n\n".join(texts)
