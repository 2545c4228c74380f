"""What is put into the last parse is what the parser would say."""

from typing import Any

import pytest

from studies.acceleration import parsed_again
from studies.acceleration.parsed_again import again
from studies.trial.arguments import parse_section

GIVEN = {"hidden_sizes": [16], "learning_rate": 0.1, "dropout": 0.5, "optimizer": "adam", "batch_norm": False}


def parsed(given: dict[str, Any]) -> Any:
    return parse_section("model", {"class_path": "lightning_modules.MLP", "init_args": given})


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.2},
        {"learning_rate": 1e-9, "dropout": 0.0},
        {"learning_rate": 2},  # the parser makes it a float
        {"hidden_sizes": [16, 16]},
        {"hidden_sizes": (16,)},
        {"optimizer": "sgd"},
        {"batch_norm": True},
        {"weight_decay": 0.1},
    ],
)
def test_it_is_what_the_parser_says(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed_again, "_LAST", {})
    parsed(GIVEN)
    found = parsed(GIVEN | changes).config
    monkeypatch.setattr(parsed_again, "_LAST", {})
    wanted = parsed(GIVEN | changes).config
    assert found == wanted
    assert [type(value) for value in vars(found.model).values()] == [
        type(value) for value in vars(wanted.model).values()
    ]


def test_only_other_numbers_of_the_same_types_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed_again, "_LAST", {})
    parser = parsed(GIVEN).parser
    assert again(parser, GIVEN | {"learning_rate": 0.7}) is not None
    for changes in ({"learning_rate": 2}, {"learning_rate": "0.7"}, {"optimizer": "sgd"}, {"batch_norm": True}):
        assert again(parser, GIVEN | changes) is None
    with pytest.raises(ValueError, match=r"model\.optimizer must be"):
        parsed(GIVEN | {"optimizer": "admw"})


def test_a_number_that_the_parser_turns_into_something_else_is_parsed_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parsed_again, "_LAST", {})
    parsed(GIVEN | {"learning_rate": 1})
    assert type(parsed(GIVEN | {"learning_rate": 2}).config.model.learning_rate) is float
