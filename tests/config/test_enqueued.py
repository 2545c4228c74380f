import re
from typing import Any

import pytest

from studies.config.enqueued import assignments, check_enqueued
from studies.config.search_space import parse_space

SPACE = parse_space(
    {
        "model.lr": {"low": 1e-4, "high": 0.1, "log": True},
        "model.sizes": [[32, 16], [], None],
        "data.n": {"low": 1, "high": 9, "step": 2},
        "model.drop": {"low": 0.0, "high": 0.5, "step": 0.1},
        "model.flag": [True, 0],
        "trainer.max_epochs": [5, 10],
    }
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.lr=1e-3", {"model.lr": 0.001}),
        ("model.lr=0.1,data.n=3", {"model.lr": 0.1, "data.n": 3}),
        ("model.sizes=[32, 16], model.lr=0.01", {"model.sizes": [32, 16], "model.lr": 0.01}),
        ("model.init_args.sizes=[],model.flag=true", {"model.sizes": [], "model.flag": True}),
        ("model.sizes=null", {"model.sizes": None}),
    ],
)
def test_values_are_yaml_by_dotted_name(text: str, values: dict[str, Any]) -> None:
    assert check_enqueued(assignments(text), SPACE) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.lr", "enqueue must be NAME=VALUE,NAME=VALUE, but got enqueue='model.lr'"),
        ("", "enqueue must be NAME=VALUE"),
        ("model.lr=0.1,model.lr=0.2", "enqueue has model.lr twice"),
        ("model.lr=[1", "broken YAML"),
        ("model.lrr=0.1", "enqueue: unknown parameter model.lrr; did you mean model.lr?"),
        ("model.lr=1", "enqueue: model.lr must be a number from 0.0001 to 0.1, but got 1"),
        ("model.lr=fast", "but got 'fast'"),
        ("model.lr=nan", "enqueue: model.lr must be a number"),
        ("data.n=4", "enqueue: data.n must be a whole number from 1 to 9 in steps of 2, but got 4"),
        ("data.n=3.5", "enqueue: data.n must be a whole number"),
        ("data.n=true", "enqueue: data.n must be a whole number"),
        ("model.drop=0.25", "in steps of 0.1"),
        ("model.sizes=[32]", "enqueue: model.sizes must be one of [[32, 16], [], None], but got [32]"),
        ("model.flag=false", "enqueue: model.flag must be one of [True, 0], but got False"),
    ],
)
def test_what_the_space_does_not_have_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        check_enqueued(assignments(text), SPACE)
    assert "\n" not in str(error.value)


def test_numbers_have_the_type_of_their_range() -> None:
    found = check_enqueued({"model.lr": 0.1, "data.n": 3.0, "model.drop": 0}, SPACE)
    assert [type(value) for value in found.values()] == [float, int, float]


def test_a_space_that_is_a_function_has_no_names() -> None:
    with pytest.raises(ValueError, match=r"space is the function a\.b:c"):
        check_enqueued({"model.lr": 0.1}, "a.b:c")
