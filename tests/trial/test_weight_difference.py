from pathlib import Path

import pytest
import torch

from studies.trial.weight_difference import largest_difference


def saved(path: Path, **weights: list[float]) -> str:
    torch.save({"state_dict": {name: torch.tensor(values) for name, values in weights.items()}}, path)
    return str(path)


def test_the_parameter_that_differs_most(tmp_path: Path) -> None:
    then = saved(tmp_path / "then", a=[1.0, 2.0], b=[3.0], c=[4.0])
    now = saved(tmp_path / "now", a=[1.0, 2.5], b=[3.25], c=[4.0])
    assert largest_difference({"then": then, "now": now}) == {
        "parameter": "a",
        "by": pytest.approx(0.5),
        "differing": 2,
        "total": 3,
    }


def test_another_shape_and_no_file(tmp_path: Path) -> None:
    then, now = saved(tmp_path / "then", a=[1.0]), saved(tmp_path / "now", a=[1.0, 2.0])
    assert largest_difference({"then": then, "now": now})["by"] == float("inf")
    assert largest_difference({"then": then, "now": str(tmp_path / "absent")}) == {}
