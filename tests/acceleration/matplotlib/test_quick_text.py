"""Texts rendered by Pillow, compared with matplotlib's own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from studies.acceleration.matplotlib import quick_text
from studies.acceleration.matplotlib.quick_text import QuickText
from studies.plots import figure as figures
from studies.plots.colours import BLUE, ORANGE


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    before = figures._drawing
    figures.use(figures.Drawing(quick_text.add_text, quick_text.pixels_of))
    yield
    figures.use(before)


def drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def ink(kind: type[Text], **style: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns with a text's colour."""
    figure = Figure(figsize=(3, 3), dpi=100)
    FigureCanvasAgg(figure)
    figure.texts.append(kind(0.5, 0.5, "9 quick Words", figure=figure, transform=figure.transFigure, **style))
    figure.canvas.draw()
    return np.nonzero(np.asarray(figure.canvas.buffer_rgba())[..., 1] < 128)  # type: ignore[attr-defined]


@pytest.mark.parametrize("across", ["left", "center", "right"])
@pytest.mark.parametrize("up", ["top", "center", "baseline", "bottom"])
@pytest.mark.parametrize(
    "other", [{}, {"size": 14, "color": BLUE}, {"color": (0.8, 0.1, 0)}, {"family": "monospace"}, {"rotation": 90}]
)
def test_quick_text_is_placed_like_matplotlibs(across: str, up: str, other: dict[str, Any]) -> None:
    style = {"ha": across, "va": up, **other}
    near = 0.5 * style.get("size", 10) * 100 / 72  # of a letter's height, in pixels
    for ours, theirs in zip(ink(QuickText, **style), ink(Text, **style), strict=True):
        assert abs(ours.min() - theirs.min()) <= near and abs(ours.max() - theirs.max()) <= near
        assert len(ours) > 0.5 * len(theirs)


def test_a_copied_text_equals_a_constructed_one() -> None:
    for style in ({"size": 9, "color": BLUE}, {"size": 9, "weight": "bold"}, {"ha": "right"}, {"size": 9}):
        pictures = []
        for make in (QuickText, QuickText.like):
            figure = Figure(figsize=(3, 2), dpi=100)
            for place, text in ((0.3, "first"), (0.6, "second")):
                arguments = {"figure": figure, "transform": figure.transFigure, **style}
                figure.texts.append(make(place, place, text, **arguments))
            pictures.append(drawn(figure))
        assert (pictures[0] == pictures[1]).all() and (pictures[0] < 128).any(), style
    with pytest.raises(AttributeError, match="colour"):
        QuickText.like(0, 0, "", figure, figure.transFigure, colour=BLUE)


def mixed() -> Figure:
    """Texts under, over and next to other things, on linear and logarithmic axes."""
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


def test_texts_drawn_together_equal_texts_drawn_one_by_one() -> None:
    figure = mixed()
    texts = list(figure.texts)
    together = quick_text.pixels_of(figure).copy()
    assert figure.texts == texts
    assert (together == drawn(mixed())).all() and (together[..., 0] < 100).any()


def test_a_figure_of_the_users_own_is_drawn_by_matplotlib() -> None:
    """E.g. its background is kept."""
    figure = Figure(figsize=(2, 1), dpi=100, facecolor="black")
    figure.add_subplot().plot([0, 1], color="lime")
    figure.text(0.5, 0.5, "mine", color="red")
    pixels = quick_text.pixels_of(figure)
    assert (pixels == figures.pixels_of(figure)).all()
    assert (pixels[0, 0, :3] == 0).all()
