"""The picture of `harness prune-lab`: plain values in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from studies.plots.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from studies.plots.figure import DPI, tidy, title

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 4.6, 3.2, 0.9, 0.65, 0.3, 0.8  # inches of a panel and its margins
SERIES = (BLUE, GREEN, PURPLE, SKY, ORANGE)


def prune_lab_picture(
    pruners: Sequence[Mapping[str, Any]], samplers: Sequence[Mapping[str, Any]], heading: str
) -> Figure:
    """What pruners save, orange if the best trial is lost; and the regret of samplers after each trial.

    Args:
        pruners: each with `pruner`, `reports_saved`, `reports` and `best_survived`.
        samplers: each with `sampler` and `regret`, one a trial.
    """
    panels = 2 if samplers else 1
    wide, high = panels * (LEFT + WIDTH + RIGHT), BOTTOM + HEIGHT + TOP
    figure = Figure(figsize=(wide, high), dpi=DPI)
    size = (WIDTH / wide, HEIGHT / high)
    saved = figure.add_axes((LEFT / wide, BOTTOM / high, *size))
    shares = [row["reports_saved"] / row["reports"] for row in pruners]
    colours = [SERIES[0] if row["best_survived"] else ORANGE for row in pruners]
    saved.bar([row["pruner"] for row in pruners], shares, color=colours, width=0.6)
    saved.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    saved.set_ylim(0, 1)
    tidy(saved)
    title(saved, heading)
    saved.set_ylabel("validations saved (orange: the best trial is lost)", color=GREY, size=9)
    if samplers:
        regret = figure.add_axes(((2 * LEFT + WIDTH + RIGHT) / wide, BOTTOM / high, *size))
        for row, colour in zip(samplers, SERIES * 3, strict=False):
            numbers = range(1, len(row["regret"]) + 1)
            regret.step(numbers, row["regret"], where="post", color=colour, linewidth=1.6, label=row["sampler"])
        tidy(regret)
        title(regret, "Regret of samplers")
        regret.set_xlabel("trials", color=GREY, size=10)
        regret.set_ylabel("median regret", color=GREY, size=10)
        regret.xaxis.set_major_locator(MaxNLocator(integer=True))
        regret.legend(frameon=False, fontsize=9)
    return figure
