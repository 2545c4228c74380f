"""Saved pictures: a file shows what was drawn."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from studies.plots import classification as plots
from studies.plots import figure as figures


def as_matplotlib_draws(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_a_file_shows_what_was_drawn(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 30, (10, 10))
    figure = plots.confusion_matrix(counts, [str(digit) for digit in range(10)])
    figures.save(figure, tmp_path / "deep" / "matrix.png")
    with Image.open(tmp_path / "deep" / "matrix.png") as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == as_matplotlib_draws(figure)[..., :3]).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["matrix.png"], "no half-written file is left"


def test_colours_of_a_users_figure_are_kept(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1), dpi=10, facecolor="lime")
    figures.save(figure, tmp_path / "mine.png")
    with Image.open(tmp_path / "mine.png") as image:
        assert image.getpixel((5, 5)) == (0, 255, 0)


def test_the_drawing_functions_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_drawing", figures._drawing)
    said: list[str] = []
    pixels = np.zeros((2, 3, 4), dtype=np.uint8)
    figures.use(figures.Drawing(lambda figure, x, y, text, **style: said.append(text), lambda figure: pixels))
    assert figures.image_of(figures.message("Nothing", "to see")).size == (3, 2)
    assert said == ["Nothing", "to see"]
