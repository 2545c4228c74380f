import math

import pytest
from matplotlib.figure import Figure

from studies.plots.figure import image_of
from studies.plots.pareto import hypervolume, pareto_front

OBJECTIVES = {"acc": "maximize", "size": "minimize"}


def drawn(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Label -> points of the first panel."""
    image_of(figure)
    return {
        str(points.get_label()): [tuple(map(float, point)) for point in points.get_offsets()]  # type: ignore[union-attr,misc]
        for points in figure.axes[0].collections
    }


def test_front_dominated_and_pruned_trials_are_told_apart() -> None:
    points = {"acc": [0.9, 0.8, 0.85, 0.7, math.inf], "size": [100, 10, 100, 50, 1]}
    states = ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    figure = pareto_front(range(5), points, states, OBJECTIVES, [0, 1])
    found = drawn(figure)
    assert found["Pareto front (2)"] == [(100, 0.9), (10, 0.8)] and found["dominated (1)"] == [(100, 0.85)]
    low = figure.axes[0].get_ylim()[0]
    ((x, y),) = found["beyond the axis (1)"]
    assert x == 50 and y > 0.7 and low < y, "a pruned trial far below is marked at the edge"
    assert figure.axes[0].get_xlabel() == "size (minimized)" and figure.axes[0].get_ylabel() == "acc (maximized)"
    texts = [text.get_text() for text in figure.texts]
    assert "Pareto front: 2 of 3 complete trials" in texts, "an infinite value cannot be drawn"


def test_each_further_objective_has_a_panel() -> None:
    points = {"acc": [0.9, 0.8], "size": [100.0, 10.0], "time": [1.0, 2.0]}
    figure = pareto_front(range(2), points, ["COMPLETE"] * 2, {**OBJECTIVES, "time": "minimize"}, [0, 1])
    assert [axes.get_xlabel() for axes in figure.axes] == ["size (minimized)", "time (minimized)"]
    assert image_of(figure).width > 1000


@pytest.mark.parametrize("points", [{"acc": [], "size": []}, {"acc": [math.inf], "size": [1.0]}])
def test_without_trials_it_says_so(points: dict[str, list[float]]) -> None:
    figure = pareto_front([0] * len(points["acc"]), points, ["COMPLETE"] * len(points["acc"]), OBJECTIVES, [0])
    assert any("no trial has a value" in text.get_text() for text in figure.texts)
    assert any("no trial has a value" in text.get_text() for text in hypervolume([], []).texts)


def test_equal_values_and_one_trial_can_be_drawn() -> None:
    image_of(pareto_front([3], {"acc": [0.0], "size": [0.0]}, ["COMPLETE"], OBJECTIVES, [3]))
    image_of(hypervolume([3], [1.0]))


def test_the_hypervolume_is_a_step_at_each_trial() -> None:
    figure = hypervolume([0, 2, 5], [0.0, 0.5, 0.75])
    ((axes),) = figure.axes
    assert list(axes.lines[0].get_ydata()) == [0.0, 0.5, 0.75] and list(axes.lines[0].get_xdata()) == [0, 2, 5]
    assert any("0.75 after trial 5" in text.get_text() for text in figure.texts)
