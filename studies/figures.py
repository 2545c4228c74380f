"""What all pictures are made with: palette, an empty figure, titles, axes, and saving.

Figures are built without pyplot, so there is no global state: any thread and any forked process may draw.
Margins are given in inches, because matplotlib's own layout engines take several times as long as the drawing.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.temporary import temporary_name

# Okabe and Ito's palette, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"
GREY, INK = "#999999", "#333333"
DPI = 100


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
    assert figure is not None
    figure.text(x, y, text, **style)


def title(axes: Axes, text: str, pad: float = 12) -> None:
    axes.set_title(text, loc="left", size=11, weight="bold", color=INK, pad=pad, parse_math=False)


def tidy(axes: Axes) -> None:
    """Two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)


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
