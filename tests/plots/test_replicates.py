"""Curves with bands and pictures of differences are drawn whatever the values are."""

from __future__ import annotations

from matplotlib.figure import Figure

from studies.plots.figure import pixels_of
from studies.plots.replicates import curves_with_bands, differences
from studies.statistics.intervals import curve_with_band


def drawn(figure: Figure) -> Figure:
    assert pixels_of(figure).std() > 0
    return figure


def test_a_panel_for_each_metric_with_a_curve() -> None:
    curves = {
        "val/loss": [([1, 2, 3], [2.0, 1.0, 0.5]), ([1, 2, 3], [2.2, 1.1, 0.6])],
        "constant": [([1, 2], [1.0, 1.0]), ([1, 2], [1.0, 1.0])],
        "steep": [([1, 2], [1000.0, 0.1]), ([1, 2], [900.0, 0.2])],
        "once": [([3], [1.0]), ([3], [1.0])],
    }
    bands = {name: curve_with_band(found) for name, found in curves.items()}
    assert len(drawn(curves_with_bands(bands, curves)).axes) == 3
    drawn(curves_with_bands({}, {}))


def test_each_difference_has_a_row() -> None:
    rows = [("trial 3", 0.1, 0.05, 0.15, "better"), ("trial 9", 0.0, -0.1, 0.1, "not distinguishable")]
    axes = drawn(differences(rows, "val/accuracy", "defaults")).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["trial 3", "trial 9"]
    drawn(differences([], "val/accuracy", "defaults"))
