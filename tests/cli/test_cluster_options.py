"""--executor ray and its options."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from studies.cli.bad_input import BadInput
from studies.cli.cluster_options import RAY, executor_of, workers_of

NONE = {"executor": None, "ray_address": None, "cpus_per_trial": None, "gpus_per_trial": None, "workers": None}


def given(**options: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**NONE, **options})


def test_the_command_line_comes_before_the_file() -> None:
    assert executor_of(given(), "local") == "local"
    assert executor_of(given(executor="ray"), "local") == "ray"
    assert executor_of(given(executor="local"), "ray") == "local"
    of_file = {"class_path": RAY, "init_args": {"address": "auto", "cpus": 4}}
    assert executor_of(given(), of_file) == of_file
    assert executor_of(given(cpus_per_trial=2.0, gpus_per_trial=0.5), of_file) == {
        "class_path": RAY,
        "init_args": {"address": "auto", "cpus": 2.0, "gpus": 0.5},
    }
    assert executor_of(given(ray_address="auto"), "ray") == {"class_path": RAY, "init_args": {"address": "auto"}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpus_per_trial": 2.0}, "--cpus-per-trial applies to --executor ray"),
        ({"ray_address": "auto", "executor": "local"}, "--ray-address applies to --executor ray"),
        ({"executor": "rey"}, "ray"),
    ],
)
def test_bad_input(options: dict[str, Any], said: str) -> None:
    with pytest.raises((BadInput, ValueError), match=said):
        executor_of(given(**options), "local")


def test_workers_are_as_many_as_fit_only_on_a_cluster() -> None:
    assert workers_of(given(), "local") == 1 and workers_of(given(), "ray") == 0
    assert workers_of(given(), {"class_path": RAY}) == 0 and workers_of(given(workers=3), "ray") == 3
    with pytest.raises(BadInput, match="workers must be at least 1"):
        workers_of(given(workers=0), "ray")
