"""Panels and their contents, compared with matplotlib's own."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from studies.plots.colours import BLUE
from studies.plots.figure import new_figure, new_panel
from studies.plots.panel import Panel, add_line

MARGINS = {"left": 0.5, "bottom": 0.4, "right": 0.3, "top": 0.2}


def drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize(("across", "up"), [((0, 1), (0, 1)), ((-3.0, 9.0), (5.0, -2.0)), ((1e-9, 2e-9), (-7, 1e6))])
def test_a_panel_puts_values_where_an_axes_would(across: tuple[float, float], up: tuple[float, float]) -> None:
    _, axes = new_figure(2, 1.5, **MARGINS)
    axes.set(xlim=across, ylim=up)
    _, panel = new_panel(2, 1.5, **MARGINS, across=across, up=up)
    assert (panel.get_xlim(), panel.get_ylim()) == (across, up)
    points = np.random.default_rng(0).uniform((across[0], min(up)), (across[1], max(up)), (20, 2))
    for name in ("transData", "transAxes"):
        np.testing.assert_allclose(getattr(panel, name).transform(points), getattr(axes, name).transform(points))
    for name in ("get_xaxis_transform", "get_yaxis_transform"):
        np.testing.assert_allclose(getattr(panel, name)().transform(points), getattr(axes, name)().transform(points))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (28, 28), (7, 150)])
def test_each_pixel_is_a_rectangle_of_its_own_colour(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    figure, panel = new_panel(2, 1.5, **MARGINS)
    panel.image(pixels)
    shown = drawn(figure)[20:170, 50:250, :3]  # the panel's place, at 100 dots per inch
    rows, columns = np.arange(150) * size[0] // 150, np.arange(200) * size[1] // 200
    assert (shown[[0, -1]][:, [0, -1]] == pixels[[0, -1]][:, [0, -1]]).all(), "corners"
    assert (shown == pixels[rows][:, columns]).mean() > 0.98


def test_nothing_is_drawn_outside_an_image() -> None:
    figure, panel = new_panel(1, 1, **MARGINS)
    panel.image(np.zeros((4, 4, 3), dtype=np.uint8))
    shown = drawn(figure)[..., 0]
    assert (shown == 0).sum() == 100 * 100 and (shown[:20] == 255).all() and (shown[:, :50] == 255).all()


def test_pixels_lines_and_texts_are_in_vector_graphics_too() -> None:
    figure, panel = new_panel(1, 1, **MARGINS)
    panel.image(np.zeros((2, 2, 3), dtype=np.uint8))
    add_line(figure, [0, 1], [0, 1], panel.transData, color=BLUE)
    figure.savefig(file := io.BytesIO(), format="svg")
    said = file.getvalue().decode()
    assert "<image" in said and BLUE.lower() in said


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    figure = Figure(figsize=(1, 1), dpi=100)
    panel = Panel(figure, (0, 0, 1, 1))
    add_line(figure, [0, 1, np.nan, 0, 1], [0.2, 0.2, np.nan, 0.8, 0.8], panel.transData, color="black", linewidth=2)
    dark = (drawn(figure)[..., 0] < 128).any(axis=1).nonzero()[0]
    assert set(dark) <= {18, 19, 20, 21, 78, 79, 80, 81} and len(dark) >= 4
