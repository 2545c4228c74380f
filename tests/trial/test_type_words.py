"""Types in messages are told as people write values."""

from __future__ import annotations

import collections.abc as abc
import datetime
import enum
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from studies.trial.arguments import parse_section
from studies.trial.type_words import in_words


class Reduction(enum.Enum):
    MEAN = 1
    SUM = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Schedule:
    rates: list[float]
    warmup: int = 0


class Keys(typing.TypedDict):
    width: int


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "an integer"),
        (float, "a number"),
        (bool, "true or false"),
        (str, "a text"),
        (Path, "a path"),
        (datetime.timedelta, "a duration"),
        (Any, "any value"),
        (typing.Union[int, float], "a number"),  # noqa: UP007
        (typing.Optional[int], "an integer or null"),  # noqa: UP045
        (int | float | None, "a number or null"),
        (None | int | str, "an integer, a text or null"),
        (bool | Literal["warn"] | None, "true, false, warn or null"),
        (Literal["relu", "tanh"], "relu or tanh"),
        (Literal[64, "64", 32], "64 or 32"),
        (list[int], "a list of integers"),
        (abc.Sequence[float], "a list of numbers"),
        (list[list[int]], "a list of lists of integers"),
        (list[int | str], "a list of integers or texts"),
        (tuple[int, int], "a list of 2 integers"),
        (tuple[int, str], "a list of 2: an integer, a text"),
        (tuple[float, ...], "a list of numbers"),
        (tuple, "a list"),
        (set[str], "a list of texts"),
        (dict[str, float], "a mapping of texts to numbers"),
        (dict, "a mapping"),
        (Reduction, "MEAN or SUM"),
        (Point, "a mapping with x, y"),
        (Schedule, "a mapping with rates, warmup"),
        (Keys, "a mapping with width"),
        (type[torch.nn.Module], "a class derived from Module"),
        (abc.Callable[[], torch.nn.Module], "a class_path of a Module"),
        (typing.Callable[..., Any], "the dotted path of a function or class"),
        (abc.Callable, "the dotted path of a function or class"),
        (list[Callback] | Callback | None, "a list of Callbacks, a Callback or null"),
        (typing.Annotated[int, "positive"], "an integer"),
        (torch.dtype, "a dtype"),
        (typing.TypeVar("Shape"), "a Shape"),
    ],
)
def test_a_type_in_words(hint: Any, words: str) -> None:
    assert in_words(hint) == words


def test_every_parameter_of_the_trainer_has_words_without_a_types_brackets() -> None:
    for name, hint in typing.get_type_hints(Trainer.__init__).items():
        assert not set("[]<>").intersection(in_words(hint)), name


MLP = "lightning_modules.MLP"


@pytest.mark.parametrize(
    ("section", "content", "line"),
    [
        ("trainer", {"max_epochs": "abc"}, "trainer.max_epochs must be an integer or null, but got 'abc'"),
        (
            "trainer",
            {"callbacks": "EarlyStoping"},
            "trainer.callbacks must be a list of Callbacks, a Callback or null, but got 'EarlyStoping'; "
            "did you mean EarlyStopping?",
        ),
        (
            "trainer",
            {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": 3}}]},
            "trainer.callbacks.monitor must be a text, but got 3",
        ),
        (
            "model",
            {"class_path": MLP, "init_args": {"activation": "rellu"}},
            "model.activation must be sigmoid, tanh, relu or gelu, but got 'rellu'; did you mean relu?",
        ),
        (
            "model",
            {"class_path": MLP, "init_args": {"hidden_sizes": "big"}},
            "model.hidden_sizes must be a list of integers, but got 'big'",
        ),
        (
            "model",
            {"class_path": "argument_kinds.EnumDefault", "init_args": {"reduction": "SUMM"}},
            "model.reduction must be MEAN or SUM, but got 'SUMM'; did you mean SUM?",
        ),
        (
            "model",
            {"class_path": "argument_kinds.NestedDataclass", "init_args": {"plan": {"schedule": {"warmup": "x"}}}},
            "model.plan.schedule.warmup must be an integer, but got x",
        ),
        ("optimizer", {"class_path": "AdamW", "init_args": {"lr": "x"}}, "optimizer.lr must be a number, but got 'x'"),
        ("optimizer", {"class_path": "Adm"}, "unknown optimizer Adm; did you mean Adam?"),
        (
            "lr_scheduler",
            {"class_path": "StepLR", "init_args": {"step_size": "x"}},
            "lr_scheduler.step_size must be an integer, but got 'x'",
        ),
    ],
)
def test_a_wrong_value_is_one_line_without_typing(section: str, content: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_section(section, content)
    assert str(raised.value) == line
