from __future__ import annotations

from typing import Any

import pytest

from studies.config.search_space import Choice, Range
from studies.reports.edges import edge_alarms
from studies.reports.values import Parameter, is_logarithmic

RATE = Range(1e-4, 1e-1, log=True)


def alarms(entry: Range | Choice | None, values: list[Any]) -> list[str]:
    """Of one parameter, whose values are those of trials, best first."""
    parameter = Parameter("model.rate", "rate", values, entry, is_logarithmic(entry, values))
    return edge_alarms([parameter], range(len(values)))


@pytest.mark.parametrize(("best", "side"), [(0.09, "upper"), (1.1e-4, "lower"), (1e-1, "upper"), (1e-4, "lower")])
def test_the_best_at_an_edge_of_a_range_asks_to_widen_it(best: float, side: str) -> None:
    (line,) = alarms(RATE, [best, 0.01, 0.02])
    assert f"The best rate, {best:.4g}, lies at the {side} edge of its range (0.0001 to 0.1)" in line
    assert line.endswith("widen it.")


@pytest.mark.parametrize("best", [0.01, 0.05, 2e-4, None, "text", True])
def test_the_best_within_a_range_is_no_alarm(best: Any) -> None:
    assert alarms(RATE, [best, 0.1, 0.1]) == []


def test_edges_are_measured_on_the_scale_of_the_range() -> None:
    assert alarms(Range(1e-4, 1e-1), [0.004, 0.01]), "within 5% of a linear range"
    assert not alarms(RATE, [0.004, 0.01]), "the middle of a logarithmic one"


def test_it_says_how_many_of_the_best_agree() -> None:
    (line,) = alarms(RATE, [0.1, 0.09, 0.001, 0.001])
    assert "2 of the 4 best are near it" in line


def test_lists_of_three_or_more_numbers_have_edges() -> None:
    (line,) = alarms(Choice([16, 32, 64]), [64, 32])
    assert "upper edge of its list (16 to 64)" in line
    assert not alarms(Choice([16, 32, 64]), [32, 64])
    assert not alarms(Choice([16, 64]), [64, 16]), "one of two is always an end"
    assert not alarms(Choice(["a", "b", "c"]), ["c"]) and not alarms(Choice([1, None, 3]), [3])


def test_zero_is_the_end_of_what_is_possible() -> None:
    assert not alarms(Range(0.0, 0.5), [0.0, 0.01])
    assert alarms(Range(0.0, 0.5), [0.5, 0.01])


def test_no_trial_and_no_space_are_no_alarm() -> None:
    assert alarms(RATE, []) == [] and alarms(None, [0.1]) == []
