"""Paired comparisons: their direction, correction, interval and the number of seeds that is needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studies.statistics.paired import Comparison, compare, power, seeds_needed

A = [0.91, 0.93, 0.92, 0.95, 0.94, 0.93]
B = [0.90, 0.91, 0.915, 0.93, 0.925, 0.92]


def test_the_p_value_is_scipys_paired_t_test_times_the_comparisons() -> None:
    found = compare(A, B, "maximize", comparisons=3)
    assert found.p_value == pytest.approx(3 * stats.ttest_rel(A, B).pvalue)
    assert found.difference == pytest.approx(np.mean(A) - np.mean(B)) and found.verdict == "better"
    assert found.low < found.difference < found.high and found.probability_better > 0.99


def test_the_lower_is_better_when_minimizing() -> None:
    assert compare(A, B, "minimize").verdict == "worse"
    assert compare(B, A, "minimize").verdict == "better"


def test_verdicts_without_a_winner() -> None:
    assert compare(A, A, "maximize").verdict == "not distinguishable"
    noise = np.random.default_rng(0).normal(0.0, 1.0, 8)
    assert Comparison(tuple(noise - noise.mean())).verdict == "not distinguishable"
    nearly = Comparison((1.0, -0.5, 1.2, 0.1, 0.9))
    assert nearly.verdict == "more seeds needed" and nearly.seeds_needed is not None and nearly.seeds_needed > 5


def test_equal_differences_are_decided_by_their_sign() -> None:
    assert Comparison((0.1, 0.1, 0.1)).verdict == "better" and Comparison((-0.1,) * 3).verdict == "worse"


def test_the_seeds_needed_reach_the_power_and_one_less_does_not() -> None:
    needed = seeds_needed(1.0)
    assert needed == 13  # G*Power 3.1: paired t-test, dz = 1, two-sided 5%, power 0.9
    assert power(1.0, 13) >= 0.9 > power(1.0, 12)
    assert seeds_needed(1.0, comparisons=3) > needed
    assert seeds_needed(0.0) is None and seeds_needed(0.01) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=10))
def test_a_comparison_turned_round_says_the_opposite(values: list[float]) -> None:
    one, other = Comparison(tuple(values)), Comparison(tuple(-value for value in values))
    opposite = {"better": "worse", "worse": "better"}
    assert other.verdict == opposite.get(one.verdict, one.verdict)
    assert one.p_value == pytest.approx(other.p_value)


def test_what_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        compare([1.0], [1.0], "maximize")
    with pytest.raises(ValueError, match="two pairs"):
        compare([1.0, 2.0], [1.0], "maximize")
