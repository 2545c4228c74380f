"""Renders the texts of our pictures with Pillow: they are mostly text, which matplotlib lays out glyph by glyph.

Only used for figures with texts by `figure.write`; all others, including users' own, are drawn by matplotlib alone.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.font_manager import findfont as find_font
from matplotlib.text import Text
from matplotlib.transforms import Transform
from PIL import ImageFont

from studies.acceleration.matplotlib.quick_png import write_png
from studies.plots import figure as figures
from studies.plots.classification import confusion_matrix
from studies.plots.learning_curves import learning_curves


def warm_up() -> None:
    """Installs the faster drawing, and draws two pictures to find fonts and fill caches."""
    figures.use(figures.Drawing(add_text, pixels_of, write_png))
    names, counts = list("0123456789"), [[10 * row + column for column in range(10)] for row in range(10)]
    for figure in (confusion_matrix(counts, names), learning_curves({"train/loss": ([1, 2], [1.0, 0.5])})):
        figures.image_of(figure).save(io.BytesIO(), "png")


def add_text(figure: Figure, x: float, y: float, text: str, transform: Transform, **style: Any) -> None:
    """Like `figure.text`, for one line of text that Pillow can render."""
    figure.texts.append(QuickText.like(x, y, text, figure, transform, **style))


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure's pixels, uint8 (H, W, 4), on white: first everything else, then all texts at once."""
    texts = list(figure.texts)
    quick: list[QuickText] = []
    others: list[Text] = []
    for text in texts:
        if isinstance(text, QuickText) and text.is_quick:
            quick.append(text)
        else:
            others.append(text)
    if not quick:
        return figures.pixels_of(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    pixels = np.asarray(renderer.buffer_rgba())
    pixels[:] = 255
    figure.patch.set_visible(False)  # it is white, too, and takes 1 ms to draw
    figure.texts[:] = others
    try:
        figure.draw(renderer)
    finally:
        figure.patch.set_visible(True)
        figure.texts[:] = texts
    draw_texts(renderer, quick)
    return pixels


class QuickText(Text):
    """One line of text, rendered by Pillow in raster images and by matplotlib otherwise.

    Pillow takes a tenth of the time: matplotlib (3.11) lays out and draws glyph by glyph in Python.
    """

    @classmethod
    def like(cls, x: float, y: float, text: str, figure: Figure, transform: Transform, **style: Any) -> QuickText:
        """Ten times as fast as the constructor: copies another text of that style.

        Sets attributes directly, since Text's setters notify listeners, and there are none yet.
        """
        new = cls.__new__(cls)
        place = {"_parent_figure": figure, "_transform": transform, "_transformSet": True}
        vars(new).update(vars(_model(cls, **style)), _x=x, _y=y, _text=str(text), **place)  # type: ignore[arg-type]
        return new

    @property
    def is_quick(self) -> bool:
        """Whether Pillow can render it: a single horizontal or vertical line."""
        return self.get_rotation() in (0, 90) and "\n" not in self.get_text()

    def draw(self, renderer: Any) -> None:
        if isinstance(renderer, RendererAgg) and self.is_quick:
            draw_texts(renderer, [self])
        else:
            super().draw(renderer)


def draw_texts(renderer: RendererAgg, texts: Sequence[QuickText]) -> None:
    """Draws quick texts, sharing their computed positions and colours."""
    matrices: dict[int, list[list[float]]] = {}
    contexts: dict[str, Any] = {}
    for text in texts:
        family = "DejaVu Sans Mono" if "monospace" in text.get_fontfamily() else "DejaVu Sans"
        is_bold, size = text.get_fontweight() == "bold", text.get_fontsize() * renderer.dpi / 72
        anchor = (text.get_horizontalalignment(), text.get_verticalalignment())
        drawn, right, down = _drawn(text.get_text(), family, is_bold, size, *anchor, text.get_rotation())
        if not drawn.size:
            continue
        place: Any = text.get_transform()
        x, y = cast(tuple[float, float], text.get_position())
        if place.is_affine:
            if id(place) not in matrices:
                matrices[id(place)] = place.get_affine().get_matrix().tolist()
            (a, c, e), (b, d, f), _ = matrices[id(place)]
            x, y = a * x + c * y + e, b * x + d * y + f
        else:  # logarithmic axes
            x, y = place.transform((x, y))
        colour = str(text.get_color())  # a name or a tuple
        if colour not in contexts:
            contexts[colour] = renderer.new_gc()
            contexts[colour].set_foreground(text.get_color())
        bottom = renderer.height - y + down + drawn.shape[0]
        renderer._renderer.draw_text_image(drawn, round(x + right), round(bottom), 0, contexts[colour])
    for context in contexts.values():
        context.restore()


@functools.lru_cache(256)
def _model(kind: type[QuickText], **style: Any) -> QuickText:
    """A template text of a style, which others copy."""
    return kind(0, 0, "", **style)


@functools.lru_cache(4096)  # mostly numbers, of which there are few
def _drawn(
    text: str, family: str, bold: bool, pixels: float, across: str, up: str, rotation: float
) -> tuple[np.ndarray, float, float]:
    """Coverage of each pixel by a text, uint8 (H, W), and its offset to the right of and below the anchor."""
    font = _font(family, bold, pixels)
    if not rotation:
        mask, (right, down) = font.getmask2(text, mode="L", anchor=_ACROSS[across] + _UP[up])
        return _array(mask), right, down
    # Rotated by 90 degrees, a line's top is on the left and its end at the top; matplotlib aligns the rotated box.
    mask, (right, down) = font.getmask2(text, mode="L", anchor="la")
    ascent, descent = font.getmetrics()
    length, height = font.getlength(text), ascent + descent
    left = {"left": 0.0, "center": -height / 2, "right": -height}[across]
    top = {"bottom": -length, "baseline": -length, "top": 0.0}.get(up, -length / 2)
    turned = np.ascontiguousarray(np.rot90(_array(mask)))
    return turned, left + down, top + length - right - turned.shape[0]


def _array(mask: Any) -> np.ndarray:
    width, height = mask.size
    return np.frombuffer(bytearray(bytes(mask)), dtype=np.uint8).reshape(height, width)


_ACROSS = {"left": "l", "center": "m", "right": "r"}
_UP = {"top": "a", "center": "m", "center_baseline": "m", "baseline": "s", "bottom": "d"}


@functools.cache
def _font(family: str, bold: bool, pixels: float) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, loaded by Pillow. Basic layout suffices: names are left-to-right and without ligatures."""
    path = find_font(FontProperties(family=family, weight="bold" if bold else "normal"))
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
