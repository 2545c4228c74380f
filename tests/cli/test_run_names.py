from __future__ import annotations

from typing import Any

import pytest

from studies.cli.bad_input import BadInput
from studies.cli.parser import parse
from studies.cli.run_names import NOTE, name_of, tags_of


def named(*arguments: str) -> str | None:
    options, overrides = parse(["train", "mnist_mlp", *arguments])
    return name_of(options, overrides, options.origin)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--seed", "3"], "seed=3"),
        (["--model.learning_rate", "0.01", "--seed", "3"], "learning_rate=0.01 seed=3"),
        (["--model.a.width", "1", "--model.b.width=2", "--data.c", "[]"], "model.a.width=1 model.b.width=2 c=[]"),
        (["--name", "mine", "--seed", "3"], "mine"),
    ],
)
def test_a_run_is_named_by_what_differs(arguments: list[str], expected: str | None) -> None:
    assert named(*arguments) == expected


def test_a_run_from_another_is_named_by_it() -> None:
    options, overrides = parse(["train", "--from", "0123456789ab", "--seed", "1"])
    assert name_of(options, overrides, "0123456789abcdef") == "from 01234567 seed=1"


def test_tags_and_note() -> None:
    options, _ = parse(["study", "x", "--tag", "paper=ICML", "--tag", "a=b=c", "--tag", "e=", "--note", "**why**"])
    assert tags_of(options) == {"paper": "ICML", "a": "b=c", "e": "", NOTE: "**why**"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tag", "paper"], "tag must be KEY=VALUE, but got tag='paper'"),
        (["--tag", "=x"], "tag must be KEY=VALUE"),
        (["--tag", "mlflow.user=x"], "tag mlflow.user is reserved"),
        (["--tag", "harness.study=x"], "tag harness.study is reserved"),
        (["--tag", "a\nb=x"], "tag's key must be"),
        (["--name", " "], "name must have 1 to 250 characters"),
    ],
)
def test_bad_names_are_one_line(arguments: list[str], said: Any) -> None:
    options, overrides = parse(["train", "x", *arguments])
    with pytest.raises(BadInput, match=said):
        tags_of(options)
        name_of(options, overrides)
