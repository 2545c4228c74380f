"""The arguments of Lightning's Trainer, as a parser reads them."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Mapping
from typing import Any, get_args

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException

# Trainer arguments that conflict with what the harness does itself.
REFUSED = {
    "fast_dev_run": "it would leave no checkpoint; --trainer.limit_train_batches 1 --trainer.max_epochs 1 is similar",
    "barebones": "a run without logger and checkpoints cannot be tracked",
}
TRAINER_PARAMETERS = frozenset(inspect.signature(Trainer).parameters)


def check_durations(given: Mapping[str, Any]) -> None:
    """Checks what Lightning would only find when it trains: texts and mappings that stand for a time.

    Raises:
        ValueError: one of them is no duration; in one line.
    """
    for name in ("max_time", "val_check_interval"):
        value = given.get(name)
        if isinstance(value, str | Mapping):
            try:
                Timer(duration=value)  # type: ignore[arg-type]
            except (MisconfigurationException, TypeError, ValueError) as error:
                else_ = ", a number" if name == "val_check_interval" else ""
                raise ValueError(
                    f"trainer.{name} must be a duration as DD:HH:MM:SS{else_} or null, but got {value!r}"
                ) from error


@functools.cache
def trainer_parser(given: frozenset[str]) -> LightningArgumentParser:
    """A parser of these arguments of Lightning's Trainer; the others keep its defaults."""
    parser = new_parser()
    signature = inspect.signature(Trainer).parameters
    numbers = [name for name in sorted(given) if {int, float} <= set(get_args(signature[name].annotation))]
    skip: set[str | int] = {*(TRAINER_PARAMETERS - given), *numbers}
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True, skip=skip)
    for name in numbers:
        # Lightning's are Union[int, float, ...], but typing's cache may turn that into the Union[float, int, ...] of a
        # library that is imported before: limit_train_batches 1 would become 1.0, which is all batches.
        others = [kind for kind in get_args(signature[name].annotation) if kind not in (int, float)]
        kinds = functools.reduce(operator.or_, [int, float, *others])
        parser.add_argument(f"--trainer.{name}", type=kinds, default=signature[name].default)
    return parser


def new_parser() -> LightningArgumentParser:
    return LightningArgumentParser(exit_on_error=False, add_help=False)
