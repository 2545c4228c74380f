"""Pictures as they are saved: what a file shows is what was drawn."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from studies.plots import classification as plots
from studies.plots import figure as figures
from studies.plots.colours import BLUE, ORANGE


def as_matplotlib_draws(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def mixed() -> Figure:
    """Texts under, over and beside other things, on straight and on logarithmic axes."""
    figure, axes = figures.new_figure(3, 2, left=0.6, bottom=0.6, right=0.3, top=0.5)
    axes.plot([1, 10, 1000], [2, 3, 1], color=BLUE)
    axes.set_xscale("log")
    figures.title(axes, "A title")
    figures.write(axes, 10, 2, "in values", color=ORANGE)
    figures.write(axes, 0.1, 0.9, "turned", rotation=90, transform=axes.transAxes)
    figures.write(axes, 0.5, 0.2, "two\nlines", transform=axes.transAxes)
    figures.write(axes, 0.5, 0.5, "", transform=axes.transAxes)
    figures.write(axes, 0.2, 0.4, "slanted", rotation=30, transform=axes.transAxes)
    return figure


def test_texts_drawn_together_are_the_texts_drawn_one_by_one() -> None:
    figure = mixed()
    texts = list(figure.texts)
    together = figures.drawn(figure).copy()
    assert figure.texts == texts
    assert (together == as_matplotlib_draws(mixed())).all() and (together[..., 0] < 100).any()


def test_a_file_shows_what_was_drawn(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 30, (10, 10))
    figure = plots.confusion_matrix(counts, [str(digit) for digit in range(10)])
    figures.save(figure, tmp_path / "deep" / "matrix.png")
    drawn = as_matplotlib_draws(figure)[..., :3].astype(int)
    with Image.open(tmp_path / "deep" / "matrix.png") as image:
        assert image.mode == "P" and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1000, "of more shades than it has"
        errors = np.abs(np.asarray(image.convert("RGB")).astype(int) - drawn).max(axis=2)
    assert errors.max() <= 24 and (errors > 4).mean() < 0.01
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["matrix.png"], "no half-written file is left"
