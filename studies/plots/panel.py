"""A rectangle of a figure with coordinates of its own: what most pictures of a trial need of matplotlib's Axes.

An Axes takes 10 ms to make and to draw empty, and resamples an image for another 15: several times what the picture
of a small trial takes. A Panel is made of transforms alone; lines, images and texts go straight into the figure.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist, allow_rasterization
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.font_manager import findfont as find_font
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxTransformFrom, BboxTransformTo, Transform, TransformedBbox
from matplotlib.transforms import blended_transform_factory as blended
from PIL import ImageFont


class Panel:
    """A rectangle of a figure.

    Args:
        box: left, bottom, width and height, in shares of the figure's.
        across: values at the left and at the right edge.
        up: values at the lower and at the upper edge.

    Attributes:
        transAxes, transData: from the panel's own coordinates, 0 to 1, and from values, to pixels; their names are
            those of Axes, so that `figures.write` and `figures.title` take either.
    """

    def __init__(
        self,
        figure: Figure,
        box: Sequence[float],
        across: tuple[float, float] = (0.0, 1.0),
        up: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.figure, self.across, self.up = figure, across, up
        left, bottom, width, height = box
        place = TransformedBbox(Bbox.from_bounds(left, bottom, width, height), figure.transFigure)
        self.transAxes: Transform = BboxTransformTo(place)
        values = Bbox([[across[0], up[0]], [across[1], up[1]]])
        self.transData: Transform = BboxTransformFrom(values) + self.transAxes

    def get_figure(self) -> Figure:
        return self.figure

    def get_xaxis_transform(self) -> Transform:
        """x in values, y in the panel's own coordinates."""
        return blended(self.transData, self.transAxes)

    def get_yaxis_transform(self) -> Transform:
        """The other way round."""
        return blended(self.transAxes, self.transData)

    def get_xlim(self) -> tuple[float, float]:
        return self.across

    def get_ylim(self) -> tuple[float, float]:
        return self.up

    def image(self, pixels: Any) -> None:
        """Pixels, uint8 (H, W, 3), that fill the panel, the first row at the top; each is drawn as a rectangle."""
        image = Pixels(np.asarray(pixels, dtype=np.uint8), self.transAxes)
        image.set_figure(self.figure)
        self.figure.artists.append(image)


def add_line(figure: Figure, x: Any, y: Any, transform: Transform, **style: Any) -> None:
    """A line through points, broken where one is NaN."""
    line = Line2D(x, y, transform=transform, **style)
    line.set_figure(figure)
    figure.lines.append(line)


class Pixels(Artist):
    """An image whose pixels are repeated until it fills its place: nothing is interpolated.

    Args:
        pixels: uint8 (H, W, 3).
        place: from (0, 0) and (1, 1) to two corners.
    """

    def __init__(self, pixels: np.ndarray, place: Transform) -> None:
        super().__init__()
        self.pixels, self._place = pixels, place

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        (left, bottom), (right, top) = np.round(self._place.transform([(0, 0), (1, 1)])).astype(int)
        height, width = self.pixels.shape[:2]
        rows = np.arange(top - bottom)[::-1] * height // (top - bottom)  # a renderer begins with the lowest row
        columns = np.arange(right - left) * width // (right - left)
        whole = np.dstack([self.pixels, np.full((height, width, 1), 255, dtype=np.uint8)]).view(np.uint32)[..., 0]
        shown = whole.take(columns, 1).take(rows, 0)[..., None].view(np.uint8)  # pixels as numbers: far faster
        context = renderer.new_gc()
        renderer.draw_image(context, left, bottom, shown)
        context.restore()


class QuickText(Text):
    """One line of text that Pillow sets where the picture is made of pixels; matplotlib sets it everywhere else.

    It takes a tenth of the time: matplotlib (3.11) lays out and draws glyph by glyph in Python, and a
    picture of a trial is mostly text.
    """

    @classmethod
    def like(cls, x: float, y: float, text: str, figure: Figure, transform: Transform, **style: Any) -> QuickText:
        """The same as the constructor, which takes ten times as long: a copy of another text of that style.

        Set without Text's own methods, which tell listeners of it that are not there yet.
        """
        new = cls.__new__(cls)
        place = {"_parent_figure": figure, "_transform": transform, "_transformSet": True}
        vars(new).update(vars(_model(cls, **style)), _x=x, _y=y, _text=str(text), **place)  # type: ignore[arg-type]
        return new

    @property
    def is_quick(self) -> bool:
        """Whether Pillow can set it: a line that lies or stands."""
        return self.get_rotation() in (0, 90) and "\n" not in self.get_text()

    def draw(self, renderer: Any) -> None:
        if isinstance(renderer, RendererAgg) and self.is_quick:
            draw_texts(renderer, [self])
        else:
            super().draw(renderer)


def draw_texts(renderer: RendererAgg, texts: Sequence[QuickText]) -> None:
    """Draws quick texts, which share what their places and colours are worked out to."""
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
        else:  # of a logarithmic axes
            x, y = place.transform((x, y))
        colour = str(text.get_color())  # a name, or numbers
        if colour not in contexts:
            contexts[colour] = renderer.new_gc()
            contexts[colour].set_foreground(text.get_color())
        bottom = renderer.height - y + down + drawn.shape[0]
        renderer._renderer.draw_text_image(drawn, round(x + right), round(bottom), 0, contexts[colour])
    for context in contexts.values():
        context.restore()


@functools.lru_cache(256)
def _model(kind: type[QuickText], **style: Any) -> QuickText:
    """A text of a style, of which others are copies."""
    return kind(0, 0, "", **style)


@functools.lru_cache(4096)  # numbers, above all, of which there are few
def _drawn(
    text: str, family: str, bold: bool, pixels: float, across: str, up: str, rotation: float
) -> tuple[np.ndarray, float, float]:
    """How much ink a text leaves in each pixel, uint8 (H, W), and where those begin, right of and below its place."""
    font = _font(family, bold, pixels)
    if not rotation:
        mask, (right, down) = font.getmask2(text, mode="L", anchor=_ACROSS[across] + _UP[up])
        return _array(mask), right, down
    # Turned to the left, a line's top is on the left and its end at the top: matplotlib aligns the box around that.
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
    """matplotlib's own font, as Pillow's. Its simple layout does: names are in one direction and without ligatures."""
    path = find_font(FontProperties(family=family, weight="bold" if bold else "normal"))
    return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
