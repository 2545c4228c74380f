"""Shared by all pictures: empty figures, titles, axes, and saving.

Figures are built without pyplot, so without global state: any thread and any forked process may draw.
Margins are given in inches, since matplotlib's layout engines take several times as long as drawing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from studies.common.atomic_files import temporary_name
from studies.plots.colours import GREY, GRID, INK
from studies.plots.panel import Panel, add_line

DPI = 100

Ticker = Locator | Sequence[float]


def new_figure(
    width: float, height: float, *, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with one axes of the given size and margins, in inches."""
    across, up = left + width + right, bottom + height + top
    figure = Figure(figsize=(across, up), dpi=DPI)
    return figure, figure.add_axes((left / across, bottom / up, width / across, height / up))


def new_panel(
    width: float,
    height: float,
    *,
    left: float,
    bottom: float,
    right: float,
    top: float,
    across: tuple[float, float] = (0.0, 1.0),
    up: tuple[float, float] = (0.0, 1.0),
) -> tuple[Figure, Panel]:
    """Like `new_figure`, with a panel instead of an axes, whose values reach to the edges; see `Panel`."""
    wide, high = left + width + right, bottom + height + top
    figure = Figure(figsize=(wide, high), dpi=DPI)
    return figure, Panel(figure, (left / wide, bottom / high, width / wide, height / high), across, up)


def message(heading: str, text: str) -> Figure:
    """A placeholder picture that explains why there is nothing to see."""
    figure, panel = new_panel(5, 1.2, left=0.3, bottom=0.2, right=0.3, top=0.6)
    title(panel, heading)
    write(panel, 0.5, 0.5, text, color=GREY, size=11, ha="center")
    return figure


def write(axes: Axes | Panel, x: float, y: float, text: str, **style: Any) -> None:
    """Adds literal text (no math mode for $) at data coordinates of an axes or a panel.

    It is added to the figure, since clipping to the axes would double its drawing time.
    """
    style = {"color": INK, "va": "center", "parse_math": False, **style}
    transform = style.pop("transform", axes.transData)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    _drawing.add_text(figure, x, y, text, transform=transform, **style)


def title(axes: Axes | Panel, text: str, pad: float = 12) -> None:
    """A heading above the left edge, `pad` points away."""
    figure = axes.get_figure()
    assert figure is not None
    above = axes.transAxes + ScaledTranslation(0, pad / 72, figure.dpi_scale_trans)
    write(axes, 0, 1, text, size=11, weight="bold", va="baseline", transform=above)


def tidy(axes: Axes) -> None:
    """Two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def graduate(axes: Axes | Panel, across: Ticker, up: Ticker, label: Callable[[float], float] = float) -> None:
    """Like `tidy`, with tick labels: for a panel, or faster for an axes with all curves drawn.

    Args:
        across, up: a matplotlib locator, or the ticks themselves.
        label: maps a tick of the vertical axis to its displayed number.
    """
    if isinstance(axes, Axes):
        axes.axis("off")
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    columns, rows = _ticks(across, *axes.get_xlim()), _ticks(up, *axes.get_ylim())
    beside, below = axes.get_yaxis_transform(), axes.get_xaxis_transform()
    light: dict[str, Any] = {"color": GRID, "linewidth": 0.7, "zorder": -2}  # under an axes, whose zorder is 0
    for places, transform in ((columns, below), (rows, beside)):  # one line with gaps each, from edge to edge
        along, across_it = [place for place in places for _ in range(3)], [0, 1, math.nan] * len(places)
        upright = transform is below
        add_line(figure, along if upright else across_it, across_it if upright else along, transform, **light)
    add_line(figure, [0, 0, 1], [1, 0, 0], axes.transAxes, color=GREY, linewidth=0.8, zorder=-1)
    for place, text in zip(columns, _numbers(columns), strict=True):
        write(axes, place, -0.03, text, size=9, ha="center", va="top", transform=below)
    for place, text in zip(rows, _numbers([label(row) for row in rows]), strict=True):
        write(axes, -0.02, place, text, size=9, ha="right", transform=beside)


def _ticks(ticker: Ticker, low: float, high: float) -> list[float]:
    ticks = ticker.tick_values(low, high) if isinstance(ticker, Locator) else ticker
    return [float(tick) for tick in ticks if low <= tick <= high]


def _numbers(ticks: Sequence[float]) -> list[str]:
    """Tick labels with as many digits as needed to distinguish them."""
    for digits in range(6, 17):
        labels = [f"{tick:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten; with only two also 3 times these, with fewer 2 and 5 times these."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = sum(low * 0.999 <= 10.0**power <= high * 1.001 for power in range(first, last + 1))
    factors = (1,) if decades > 2 else (1, 3) if decades == 2 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in range(first, last + 1, 1 + (last - first) // 7) for factor in factors]
    return [tick for tick in ticks if low * 0.8 <= tick <= high * 1.25] or [low, high]


def shorten(text: Any, length: int) -> str:
    """Truncates a text to at most `length` characters."""
    text = str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG atomically; creates its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path.with_name(f"{path.name}.{threading.get_ident()}"))  # threads draw too
    try:
        with open(temporary, "wb") as file:
            _drawing.write_png(_drawing.pixels_of(figure), file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def image_of(figure: Figure) -> Image.Image:
    """A figure as an image without an alpha channel."""
    return Image.fromarray(_drawing.pixels_of(figure)).convert("RGB")


def write_png(pixels: np.ndarray, file: BinaryIO) -> None:
    """Writes pixels, uint8 (H, W, 4), without their alpha channel, which would be slower to write."""
    # Level 1 is much faster, and such pictures are about as small.
    Image.fromarray(pixels).convert("RGB").save(file, "png", compress_level=1)


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure's pixels, uint8 (H, W, 4), as matplotlib draws them."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


class Drawing(NamedTuple):
    """Functions that add texts to a figure, render it, and write it as PNG."""

    add_text: Callable[..., object]
    pixels_of: Callable[[Figure], np.ndarray]
    write_png: Callable[[np.ndarray, BinaryIO], None] = write_png


_drawing = Drawing(Figure.text, pixels_of)


def use(drawing: Drawing) -> None:
    """Sets the drawing functions for all further pictures of this process."""
    global _drawing
    _drawing = drawing
