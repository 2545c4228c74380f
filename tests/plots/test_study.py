import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from studies.plots.colours import ORANGE
from studies.plots.study import (
    Scale,
    importance,
    parallel_coordinates,
    slices,
    study_history,
)

NAN, INF = math.nan, math.inf
PARAMS: dict[str, list[Any]] = {
    "model.learning_rate": [1e-4, 1e-3, 1e-2, 1e-1],
    "data.batch_size": [32, 64, 64, 512],
    "model.hidden_sizes": [[128], [256, 128], [128], []],
    "model.optimizer": ["adam", "sgd", "adam", None],
    "model.batch_norm": [True, False, True, True],
}
LOG = {"model.learning_rate", "data.batch_size"}
VALUES = [0.9, 0.95, 0.97, 0.2]
EDGES = [
    ({}, []),
    ({"a.x": []}, []),
    ({"a.x": [1.0]}, [0.5]),
    ({"a.x": [1.0, 2.0]}, [NAN, INF]),
    ({"a.x": [1.0, NAN, 3.0], "b.x": [-1, 0, 5]}, [0.1, NAN, 0.1]),
    ({"$long_name_" * 9: ["a very long word " * 9, "$"]}, [1e300, -1e300]),
    ({"a.x": list(range(200))}, [math.sin(i) for i in range(200)]),
]


def everything(figure: Figure) -> str:
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def history(value: list[float | None], state: list[str], direction: str = "maximize") -> Figure:
    return study_history(list(range(len(value))), value, state, "val/loss", direction)


@pytest.mark.parametrize(("direction", "best"), [("maximize", "0.9000 in trial 1"), ("minimize", "0.1000 in trial 3")])
def test_history_names_the_best_complete_trial(direction: str, best: str) -> None:
    states = ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "FAIL"]
    said = everything(history([0.5, 0.9, 0.99, 0.1, 0.01, None], states, direction))
    value, trial = best.split(" in ")
    assert f"best {float(value):.4g} in {trial}" in said
    assert "complete (3)" in said and "pruned (2)" in said and "no value (1)" in said


def test_history_clips_a_diverged_trial() -> None:
    figure = history([0.5, 0.4, 1e9, 0.45, 0.42, 0.3], ["COMPLETE"] * 6, "minimize")
    assert figure.axes[0].get_ylim()[1] < 1 and "beyond the axis (1)" in everything(figure)


def test_history_never_clips_the_best() -> None:
    figure = history([0.1, 0.101, 0.099, 0.1, 0.98], ["COMPLETE"] * 5)
    assert figure.axes[0].get_ylim()[1] > 0.98 and "beyond" not in everything(figure)


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ([], []),
        ([0.5], ["COMPLETE"]),
        ([0.5], ["PRUNED"]),
        ([None, NAN], ["FAIL", "FAIL"]),
        ([INF, 1.0], ["COMPLETE"] * 2),
        ([0.0, 0.0], ["COMPLETE"] * 2),
        ([float(i) for i in range(200)], ["COMPLETE", "RUNNING"] * 100),
    ],
)
def test_history_at_the_edges(value: list[float | None], state: list[str]) -> None:
    assert "val/loss of each trial" in everything(history(value, state))


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 3)])
def test_parallel_coordinates_draws_the_best_trial_in_orange(direction: str, best: int) -> None:
    figure = parallel_coordinates(PARAMS, VALUES, "val/accuracy", direction, LOG)
    (line,) = [line for line in figure.axes[0].lines if to_rgba(line.get_color()) == to_rgba(ORANGE)]
    assert np.asarray(line.get_ydata())[0] == pytest.approx([0, 1 / 3, 2 / 3, 1][best])  # its learning rate, by log
    said = everything(figure)
    assert "learning_rate" in said and "[256,128]" in said and "None" in said


@pytest.mark.parametrize(("params", "value"), EDGES)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_parallel_coordinates_and_slices_at_the_edges(params: dict, value: list[float], direction: str) -> None:
    assert everything(parallel_coordinates(params, value, "m", direction, {"a.x"}))
    assert everything(slices(params, value, "m", {"a.x"}, direction))


DIVERGED = [0.5, 0.4, 1e9, 0.45, 0.42, 0.3]


def triangles(figure: Figure) -> list[float]:
    """Heights of the orange marks at the rim."""
    marks = [dots for dots in figure.axes[0].collections if to_rgba(ORANGE) in map(tuple, dots.get_facecolor())]
    return [float(y) for dots in marks for _, y in np.asarray(dots.get_offsets())]


def test_a_value_beyond_the_axis_is_a_triangle_outside_of_it_and_no_dot() -> None:
    params = {"a.x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    figure = history(DIVERGED, ["COMPLETE"] * 6, "minimize")
    (mark,) = triangles(figure)
    assert 0.5 < mark < 1
    dots = [tuple(at) for item in figure.axes[0].collections for at in np.asarray(item.get_offsets())]
    assert [x for x, _ in dots].count(2) == 1, "trial 2 is the triangle alone"
    figure = slices(params, DIVERGED, "m", set(), "minimize")
    (mark,) = triangles(figure)
    assert mark > 0.5 and len(np.asarray(figure.axes[0].collections[0].get_offsets())) == 5
    figure = parallel_coordinates(params, DIVERGED, "m", "minimize", set())
    (mark,) = triangles(figure)
    assert mark > 1 and "1 beyond the axis" in everything(figure)
    whole, dotted = figure.axes[0].collections[:2]
    assert [len(path.vertices) for path in dotted.get_paths()] == [2]
    assert sorted(len(path.vertices) for path in whole.get_paths()) == [1, 2, 2, 2, 2, 2]


def test_a_logarithmic_axis_reaches_the_ends_of_its_range_and_has_decades_as_ticks() -> None:
    few = [0.0123, 0.004567, 0.0312]
    scale = Scale(few, True, ends=(1e-3, 1e-1))
    assert scale.labels == ["0.001", "0.01", "0.1"] and scale.ticks == pytest.approx([0, 0.5, 1])
    assert len(scale.minor) == 16 and 0 < min(scale.minor) < max(scale.minor) < 1
    assert Scale([0.00123456, 0.0456789, 8.7654321], True).labels == ["0.01", "0.1", "1"], "of a function's space, too"
    assert Scale([16, 32, 64], True).labels == ["16", "32", "64"], "choices are ticks themselves"
    assert Scale([16, 32, 64], True).minor == []


def test_importance_has_the_most_important_on_top() -> None:
    figure = importance({"model.a": 0.1, "model.b": 0.7, "data.c": NAN}, "val/accuracy")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["c", "a", "b"]  # from below
    assert "70.0%" in everything(figure)
    assert "too few trials" in everything(importance({}, "m"))
    assert "drawn at random" not in everything(importance({"a": 1.0}, "m", (9, 9)))
    assert "by 1000 of 9000 trials, drawn at random" in everything(importance({"a": 1.0}, "m", (1000, 9000)))


def test_parameters_that_share_their_last_part_keep_their_whole_names() -> None:
    said = everything(importance({"encoder.width": 0.5, "decoder.width": 0.4, "data.size": 0.1}, "m")).split("\n")
    assert "encoder.width" in said and "decoder.width" in said and "size" in said


def test_slices_leaves_out_trials_without_a_value() -> None:
    figure = slices({"a.x": [1.0, 2.0, 3.0]}, [0.5, NAN, 0.7], "m", set())
    (dots,) = figure.axes[0].collections
    assert np.asarray(dots.get_offsets())[:, 1].tolist() == [0.5, 0.7]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-9, 999), st.floats(), st.booleans(), st.none(), st.text(max_size=3),
                       st.lists(st.integers(0, 9), max_size=3)), min_size=1, max_size=9),
    st.booleans(),
)  # fmt: skip
def test_a_scale_can_place_every_value(values: list[Any], log: bool) -> None:
    scale = Scale(values, log)
    assert len(scale.places) == len(values) and ((scale.places >= -1e-9) & (scale.places <= 1 + 1e-9)).all()
    assert len(scale.ticks) == len(scale.labels) >= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=9), st.booleans())
def test_a_scale_keeps_the_order_of_numbers(values: list[float], log: bool) -> None:
    places = Scale(values, log).places
    assert (np.diff(places[np.argsort(values)]) >= -1e-12).all()
