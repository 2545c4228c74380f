"""Pictures of runs on several seeds: learning curves with bands, and differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREY, INK, ORANGE
from studies.plots.figure import DPI, message, new_figure, shorten, tidy, title

MAX_PANELS = 12
WIDTH, HEIGHT = 4.2, 3.1  # inches of a panel


def curves_with_bands(
    bands: Mapping[str, Mapping[str, Sequence[float]]],
    curves: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]],
) -> Figure:
    """Each metric against the optimizer step: a thin line for each seed, their mean, and its 95% interval as a band.

    Args:
        bands: metric -> step, mean, low and high, of equal lengths.
        curves: metric -> for each seed its steps and values.
    """
    shown = [name for name, band in bands.items() if len(band["step"]) > 1][:MAX_PANELS]
    if not shown:
        return message("Learning curves", "no metric has two common steps")
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), dpi=DPI)
    for index, name in enumerate(shown):
        left, bottom = index % columns / columns, (rows - 1 - index // columns) / rows
        axes = figure.add_axes((left + 0.17 / columns, bottom + 0.19 / rows, 0.78 / columns, 0.62 / rows))
        band = {key: np.asarray(values, dtype=float) for key, values in bands[name].items()}
        for steps, values in curves[name]:
            axes.plot(steps, values, color=GREY, linewidth=0.7, alpha=0.6, zorder=1)
        axes.fill_between(band["step"], band["low"], band["high"], color=BLUE, alpha=0.2, linewidth=0, zorder=2)
        axes.plot(band["step"], band["mean"], color=BLUE, linewidth=1.6, zorder=3)
        low, high = _limits(band)
        if low > 0 and band["mean"].max() > 50 * band["mean"].min():
            axes.set_yscale("log")
        else:
            axes.set_ylim(low, high)
            axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axes.set_xlabel("optimizer step", fontsize=8)
        tidy(axes)
        half = (band["high"][-1] - band["low"][-1]) / 2
        title(axes, f"{shorten(name, 28)}: {band['mean'][-1]:.4g} ± {half:.2g}")
    return figure


def _limits(band: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The range of the band; where it is wide, for example at the start, of the mean and twice its range."""
    low, high = float(band["low"].min()), float(band["high"].max())
    inner_low, inner_high = float(band["mean"].min()), float(band["mean"].max())
    room = (inner_high - inner_low) or abs(inner_high) * 0.05 or 0.05
    return max(low, inner_low - room) - 0.05 * room, min(high, inner_high + room) + 0.05 * room


def differences(
    rows: Sequence[tuple[str, float, float, float, str]], metric: str, baseline: str, better: str = "higher"
) -> Figure:
    """Each candidate's difference from the baseline with its interval; right of zero is better.

    Args:
        rows: (name, difference, low, high, verdict), the best first; the verdict is one of paired.Comparison's.
        better: "higher" or "lower": which values of the metric are better, for the label.
    """
    if not rows:
        return message(f"Difference from {baseline}", "nothing could be compared")
    figure, axes = new_figure(7.2, 0.42 * len(rows) + 0.4, left=1.9, bottom=0.75, right=0.3, top=0.7)
    colours = {"better": BLUE, "worse": ORANGE}
    for place, (_, difference, low, high, verdict) in enumerate(rows):
        colour = colours.get(verdict, GREY)
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=2)
        axes.plot([difference], [place], "o", color=colour, markersize=7, zorder=3)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [shorten(name, 24) for name, *_ in rows], fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"by how much {metric} is better ({better} is better)", fontsize=9)
    tidy(axes)
    title(axes, f"Against {shorten(baseline, 40)}, paired by seed")
    return figure
