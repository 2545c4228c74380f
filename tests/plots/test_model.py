import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_modules.mlp import activation_curves
from studies.plots import model as task_plots

NOISE = np.random.default_rng(0)


def everything(figure: Figure) -> str:
    figure.canvas.draw()  # drawing must not fail
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_text())  # type: ignore[attr-defined]


@pytest.mark.parametrize("classes", [2, 3])
def test_decision_boundary_counts_who_is_on_the_right_side(classes: int) -> None:
    across, up = np.linspace(-1, 1, 40), np.linspace(-2, 2, 30)
    says = np.where(across > 0, 1, 0)  # class 1 on the right, whatever the second feature
    probabilities = np.zeros((30, 40, classes))
    probabilities[:, np.arange(40), says] = 1.0
    points = np.array([[-0.5, 1.0], [0.5, -1.0], [0.5, 1.0], [-0.9, 0.0]])
    figure = task_plots.decision_boundary(
        across, up, probabilities, points, np.array([0, 1, 0, 0]), list("abc")[:classes]
    )
    assert "Decision boundary: 3 of 4 right" in everything(figure)
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert image[15, 5, 2] > image[15, 5, 0] and image[15, 35, 0] > image[15, 35, 2], "blue left, orange right"


def test_predicted_against_true_shows_the_error() -> None:
    said = everything(task_plots.predicted_against_true([1.0, 2.0, 3.0], [1.5, 2.0, 2.5]))
    assert "RMSE 0.4082, R² 0.750" in said


@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([1.0], [float("nan")]), ([2.0, 2.0], [2.0, 2.0])])
def test_predicted_against_true_at_the_edges(truth: list[float], predicted: list[float]) -> None:
    assert "Predicted against true" in everything(task_plots.predicted_against_true(truth, predicted))


def test_activation_functions_show_how_steep_each_is_at_most() -> None:
    said = everything(task_plots.activation_functions(**activation_curves()))
    assert "sigmoid" in said and "derivative, up to 0.25" in said and "gelu" in said


@pytest.mark.parametrize("count", [1, 6, 40])
def test_filters_and_feature_maps_of_any_number(count: int) -> None:
    assert f"The {count} filters" in everything(task_plots.filters(NOISE.normal(size=(count, 3, 3))))
    maps = {"layer 3": NOISE.random((count, 14, 14)), "layer 7": NOISE.random((2 * count, 1, 1))}
    said = everything(task_plots.feature_maps(NOISE.random((28, 28)), maps))
    assert f"layer 3: {min(count, 16)} of {count} maps" in said


def test_gradient_by_distance_handles_vanished_gradients() -> None:
    said = everything(task_plots.gradient_by_distance({"rnn": [1.0, 1e-3, 0.0], "gru": [1.0, 0.9, 0.8]}))
    assert "Gradient by distance in time" in said and "— rnn" in said


def test_a_gradient_of_zero_is_a_triangle_and_no_point_of_the_curve() -> None:
    figure = task_plots.gradient_by_distance({"rnn": [1.0, 1e-3, 0.0], "burst": [1.0, math.inf]})
    curve, zeros, *_ = figure.axes[0].lines
    assert np.isnan(np.asarray(curve.get_ydata())).tolist() == [False, False, True]
    assert np.asarray(zeros.get_xdata()).tolist() == [2] and zeros.get_marker() == "v"
    assert np.asarray(zeros.get_ydata())[0] < 1e-3
