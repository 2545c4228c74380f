"""Arguments of the Trainer keep their kind, whatever was imported before Lightning."""

import inspect
from typing import Any, Union

import pytest
from pytorch_lightning import Trainer

from studies.trial import trainer_arguments
from studies.trial.arguments import parse_section

BOTH = [
    name for name, parameter in inspect.signature(Trainer).parameters.items() if "float" in str(parameter.annotation)
]
BOTH.remove("precision")


@pytest.fixture
def float_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What typing's cache makes of Lightning's annotations if Optuna is imported before."""
    annotations = inspect.unwrap(Trainer.__init__).__annotations__
    for name in BOTH:
        others = [kind for kind in annotations[name].__args__ if kind not in (int, float)]
        monkeypatch.setitem(annotations, name, Union[float, int, *others])
    trainer_arguments.trainer_parser.cache_clear()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("value", [1, 1.0, 0.25, 2])
def test_a_number_keeps_its_kind(float_comes_first: None, name: str, value: Any) -> None:
    made = parse_section("trainer", {name: value, "max_epochs": 2}).instantiated()
    assert made[name] == value and type(made[name]) is type(value)


def test_other_kinds_are_read_too() -> None:
    for value in ({"hours": 1}, "00:12:00:00", None):
        assert parse_section("trainer", {"val_check_interval": value}).instantiated() is not None
    with pytest.raises(ValueError, match=r"trainer\.limit_train_batches"):
        parse_section("trainer", {"limit_train_batches": "many"})


@pytest.mark.parametrize("name", ["max_time", "val_check_interval"])
@pytest.mark.parametrize("value", ["3x", "1:2", {"hour": 1}, {"hours": "x"}])
def test_what_is_no_duration_is_refused_before_training(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"trainer.{name} must be a duration as DD:HH:MM:SS") as raised:
        parse_section("trainer", {name: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [{"max_time": "00:00:10:00"}, {"max_time": {"hours": 1}}, {"val_check_interval": 0.5}]
)
def test_durations_and_numbers_are_taken(content: dict[str, Any]) -> None:
    parse_section("trainer", content)
