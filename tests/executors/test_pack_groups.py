"""Which trials can be packed together."""

import dataclasses
from typing import Any

from studies.executors.pack_groups import kind_of
from studies.protocol.trial_spec import TrialSpec

OVER = ("learning_rate", "dropout")


def spec(data: dict[str, Any] | None = None, **model: Any) -> TrialSpec:
    experiment = {
        "model": {"class_path": "a.B", "init_args": {"learning_rate": 0.1, "hidden_sizes": [2], **model}},
        "data": {"class_path": "a.C", "init_args": {"batch_size": 8, **(data or {})}},
        "trainer": {"max_epochs": 2},
    }
    return TrialSpec("r", experiment, 0, "folder")


def test_packable_trials_have_the_same_kind() -> None:
    usual = kind_of(spec(), OVER)
    assert kind_of(spec(learning_rate=0.7), OVER) == usual
    assert kind_of(dataclasses.replace(spec(), run_id="other", seed=5, number=3, folder="else"), OVER) == usual
    assert kind_of(spec(dropout=0.1), OVER) == kind_of(spec(dropout=0.2), OVER)


def test_others_are_not() -> None:
    usual = kind_of(spec(), OVER)
    assert kind_of(spec(hidden_sizes=[3]), OVER) != usual
    assert kind_of(spec({"batch_size": 9}), OVER) != usual
    assert kind_of(spec({"learning_rate": 0.7}), OVER) != usual, "that is none of the model's"
    assert kind_of(spec(dropout=0.0), OVER) != kind_of(spec(dropout=0.2), OVER), "a layer more"
    assert kind_of(dataclasses.replace(spec(), pruning=True), OVER) != usual
    longer = dataclasses.replace(spec(), experiment={**spec().experiment, "trainer": {"max_epochs": 3}})
    assert kind_of(longer, OVER) != usual
