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
