"""Means with intervals, against closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.statistics.intervals import curve_with_band, summarize


def test_the_interval_is_students() -> None:
    found = summarize([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.std == pytest.approx(1.2909944)
    half = 3.182446305 * 1.2909944 / 2  # t with 3 degrees of freedom, and sqrt(4)
    assert found.low == pytest.approx(2.5 - half) and found.high == pytest.approx(2.5 + half)
    assert found.half_width == pytest.approx(half)


def test_one_value_has_no_interval_and_equal_ones_have_one_of_width_zero() -> None:
    assert summarize([0.5]).low is None and summarize([0.5]).half_width == math.inf
    assert summarize([0.5] * 3).half_width == 0.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_values_that_have_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        summarize(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_the_mean_lies_in_its_interval(values: list[float]) -> None:
    found = summarize(values)
    assert found.low is not None and found.high is not None
    assert found.low <= found.mean <= found.high
    assert min(values) - 1e-6 <= found.mean <= max(values) + 1e-6


def test_a_band_is_over_the_steps_that_all_curves_have() -> None:
    band = curve_with_band([([1, 2, 3], [1.0, 2.0, 9.0]), ([1, 2, 4], [3.0, 2.0, 9.0])])
    assert band["step"] == [1, 2] and band["mean"] == [2.0, 2.0]
    assert band["low"][1] == band["high"][1] == 2.0 and band["low"][0] < 2 < band["high"][0]
    assert curve_with_band([([1], [math.nan]), ([1], [1.0])])["step"] == []
    assert curve_with_band([([1, 1], [5.0, 7.0])])["mean"] == [7.0]
