"""Pictures of the samples on which two models disagree: plain lists and arrays in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from studies.plots.classification import gallery
from studies.plots.colours import BLUE, GREY, INK, ORANGE
from studies.plots.figure import message, new_panel, shorten, title, write
from studies.plots.panel import add_line

WIDEST = 24  # characters of a cell
COLUMNS = 8  # of images


def disagreements(
    truth: Sequence[str | None],
    one: Sequence[str],
    other: Sequence[str],
    names: tuple[str, str],
    heading: str,
    images: Any = None,
    inputs: Sequence[str] | None = None,
) -> Figure:
    """Samples on which two models disagree, as images or as a table. What is true is blue, what is not orange.

    Args:
        truth: N true answers; None where not known.
        one, other: N answers of each model.
        names: of the two models.
        images: float (N, H, W) or (N, H, W, 3), of 0 to 1; None: draw a table.
        inputs: N inputs as text, for the table.
    """
    if not one:
        return message(heading, "there is no such sample")
    if images is None:
        return _table(truth, one, other, names, heading, inputs or [""] * len(one))
    short = [shorten(name, 9) for name in names]
    captions = []
    for meant, first, second in zip(truth, one, other, strict=True):
        lines = [
            (f"{name} {shorten(said, 12)}", _colour(meant, said))
            for name, said in zip(short, (first, second), strict=True)
        ]
        captions.append([(f"true {shorten(meant, 12)}" if meant is not None else "", GREY), *lines])
    return gallery(images, captions, heading, COLUMNS)


def _table(
    truth: Sequence[str | None],
    one: Sequence[str],
    other: Sequence[str],
    names: tuple[str, str],
    heading: str,
    inputs: Sequence[str],
) -> Figure:
    rows = [
        [shorten(cell, WIDEST) for cell in (given, "" if meant is None else meant, first, second)]
        for given, meant, first, second in zip(inputs, truth, one, other, strict=True)
    ]
    heads = ["input", "true", *(shorten(name, WIDEST) for name in names)]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(4)]
    starts = [sum(widths[:column]) + 3 * column for column in range(4)]
    across = max(44, starts[3] + widths[3])
    size, lines = (across * 0.09, (len(rows) + 1.2) * 0.23), (len(rows) - 0.4, -1.6)
    figure, axes = new_panel(*size, left=0.3, bottom=0.15, right=0.3, top=0.6, across=(0, across), up=lines)
    title(axes, heading)
    style: dict[str, Any] = {"size": 10, "family": "monospace"}
    for start, head in zip(starts, heads, strict=True):
        write(axes, start, -1, head, color=GREY, **style)
    add_line(figure, [0, across], [-0.6, -0.6], transform=axes.transData, color=GREY, linewidth=0.6)
    for row, cells in enumerate(rows):
        colours = [GREY, INK, _colour(truth[row], one[row]), _colour(truth[row], other[row])]
        for start, cell, colour in zip(starts, cells, colours, strict=True):
            if cell:
                write(axes, start, row, cell, color=colour, **style)
    return figure


def _colour(truth: str | None, said: str) -> str:
    return INK if truth is None else (BLUE if truth == said else ORANGE)
