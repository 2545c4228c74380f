"""What all pictures are made with: palette, an empty figure, titles, axes, and saving.

Figures are built without pyplot, so there is no global state: any thread and any forked process may draw.
Margins are given in inches, because matplotlib's own layout engines take several times as long as the drawing.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont as find_font
from matplotlib.text import Text
from matplotlib.ticker import Locator
from PIL import ImageFont

from studies.temporary import temporary_name

# Okabe and Ito's palette, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"
GREY, INK = "#999999", "#333333"
DPI = 100

Ticker = Locator | Sequence[float]


def new_figure(
    width: float, height: float, *, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with one axes of that size and those margins around it, in inches."""
    across, up = left + width + right, bottom + height + top
    figure = Figure(figsize=(across, up), dpi=DPI)
    return figure, figure.add_axes((left / across, bottom / up, width / across, height / up))


def message(heading: str, text: str) -> Figure:
    """A picture of nothing that says why there is nothing to see."""
    figure, axes = new_figure(5, 1.2, left=0.3, bottom=0.2, right=0.3, top=0.6)
    axes.axis("off")
    title(axes, heading)
    write(axes, 0.5, 0.5, text, color=GREY, size=11, ha="center")
    return figure


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """A text at a place in the axes' data, taken as it is: a $ in a name starts no formula.

    It belongs to the figure, since texts of an axes are clipped, which costs half of their drawing.
    """
    style = {"color": INK, "va": "center", "transform": axes.transData, "parse_math": False, **style}
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.texts.append(QuickText(x, y, text, figure=figure, **style))


class QuickText(Text):
    """One line of text that Pillow sets where the picture is made of pixels; matplotlib sets it everywhere else.

    It takes a tenth of the time: matplotlib (3.11) lays out and draws glyph by glyph in Python, and a
    picture of a trial is mostly text.
    """

    def draw(self, renderer: Any) -> None:
        if not isinstance(renderer, RendererAgg) or self.get_rotation() or "\n" in self.get_text():
            super().draw(renderer)
            return
        pixels = self.get_fontsize() * renderer.dpi / 72
        font = _font("DejaVu Sans Mono" if "monospace" in self.get_fontfamily() else "DejaVu Sans", pixels)
        anchor = _ACROSS[self.get_horizontalalignment()] + _UP[self.get_verticalalignment()]
        mask, (right, down) = font.getmask2(self.get_text(), mode="L", anchor=anchor)
        width, height = mask.size
        if not width * height:
            return
        x, y = self.get_transform().transform(self.get_position())
        context = renderer.new_gc()
        context.set_foreground(self.get_color())
        drawn = np.frombuffer(bytearray(bytes(mask)), dtype=np.uint8).reshape(height, width)
        bottom = renderer.height - y + down + height
        renderer._renderer.draw_text_image(drawn, round(x + right), round(bottom), 0, context)
        context.restore()


_ACROSS = {"left": "l", "center": "m", "right": "r"}
_UP = {"top": "a", "center": "m", "center_baseline": "m", "baseline": "s", "bottom": "d"}


@functools.cache
def _font(family: str, pixels: float) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, as Pillow's. Its simple layout does: names are in one direction and without ligatures."""
    return ImageFont.truetype(find_font(family), pixels, layout_engine=ImageFont.Layout.BASIC)


def title(axes: Axes, text: str, pad: float = 12) -> None:
    # Without a y matplotlib looks at all ticks for where they are in the title's way.
    axes.set_title(text, loc="left", size=11, weight="bold", color=INK, pad=pad, y=1.0, parse_math=False)


def tidy(axes: Axes) -> None:
    """Two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


def graduate(axes: Axes, across: Ticker, up: Ticker) -> None:
    """The same with ticks and their labels, for an axes whose curves are all drawn, in less time.

    Args:
        across, up: a matplotlib locator, or the ticks themselves.
    """
    axes.axis("off")
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    columns, rows = _ticks(across, left, right), _ticks(up, bottom, top)
    beside, below = axes.get_yaxis_transform(), axes.get_xaxis_transform()
    light: dict[str, Any] = {"color": "#E6E6E6", "linewidth": 0.7, "zorder": 0}
    axes.vlines(columns, bottom, top, **light)
    axes.hlines(rows, left, right, **light)
    edges: dict[str, Any] = {"color": GREY, "linewidth": 1.6, "zorder": 1}  # half of which is cut off
    axes.vlines(left, bottom, top, **edges)
    axes.hlines(bottom, left, right, **edges)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for place, label in zip(columns, _numbers(columns), strict=True):
        write(axes, place, -0.03, label, size=9, ha="center", va="top", transform=below)
    for place, label in zip(rows, _numbers(rows), strict=True):
        write(axes, -0.02, place, label, size=9, ha="right", transform=beside)


def _ticks(ticker: Ticker, low: float, high: float) -> list[float]:
    ticks = ticker.tick_values(low, high) if isinstance(ticker, Locator) else ticker
    return [float(tick) for tick in ticks if low <= tick <= high]


def _numbers(ticks: Sequence[float]) -> list[str]:
    """The ticks with as many digits as tell them apart."""
    for digits in range(6, 17):
        labels = [f"{tick:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and over a short range 2 and 5 (or 3) of each too."""
    factors = (1, 2, 5) if high < 60 * low else (1, 3) if high < 1500 * low else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**power for power in range(first, last + 1, 1 + (last - first) // 7) for factor in factors]
    return [tick for tick in ticks if low * 0.8 <= tick <= high * 1.25] or [low, high]


def shorten(text: Any, length: int) -> str:
    """A text cut in its end to at most `length` characters."""
    text = str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG whole or not at all; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path.with_name(f"{path.name}.{threading.get_ident()}"))  # threads draw too
    try:
        # Level 1 takes a fraction of the default level's time; such pictures are as good as equally small.
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": 1})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
