"""A run's metrics over its steps: plain lists in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY
from studies.plots.figure import DPI, graduate, log_ticks, message, shorten, title, write
from studies.plots.panel import Panel, add_line

MAX_POINTS = 1000  # per curve; more would not be visible
MAX_CURVE_AXES = 12


def learning_curves(series: dict[str, tuple[Sequence[int], Sequence[float]]]) -> Figure:
    """Every metric against the optimizer step; train, val and test of one metric share its axes.

    Args:
        series: metric name, `<split>/<name>` -> (steps, values).
    """
    groups: dict[str, dict[str, tuple[Sequence[int], Sequence[float]]]] = {}
    for name, points in series.items():
        split, _, metric = name.rpartition("/")
        groups.setdefault(metric, {})[split] = points
    if not groups:
        return message("Learning curves", "nothing was logged")
    shown = list(groups)[:MAX_CURVE_AXES]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    height = 3.0
    figure = Figure(figsize=(max(5.0, 4.0 * columns), height * rows + 0.1), dpi=DPI)
    for index, metric in enumerate(shown):
        left = index % columns / columns
        bottom = (rows - 1 - index // columns) / rows
        box = (left + 0.17 / columns, bottom + 0.18 / rows, 0.78 / columns, 0.62 / rows)
        _curves(figure, box, metric, groups[metric])
    if len(groups) > len(shown):
        figure.text(0.99, 0.01, f"and {len(groups) - len(shown)} more metrics", ha="right", size=8, color=GREY)
    return figure


SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}


def _curves(
    figure: Figure, box: Sequence[float], metric: str, splits: dict[str, tuple[Sequence[int], Sequence[float]]]
) -> None:
    every = {split: _finite(points) for split, points in splits.items()}
    values = np.concatenate([y[~np.isnan(y)] for _, y in every.values()])
    logarithmic = len(values) > 0 and values.min() > 0 and values.max() > 50 * values.min()
    seen = np.log10(values) if logarithmic else values
    steps = np.concatenate([x for x, _ in every.values()])
    panel = Panel(figure, box, _with_margins(steps), _with_margins(seen))
    spare = iter((PURPLE, SKY, INK, GREY) * len(splits))
    for place, (split, (x, y)) in enumerate(every.items()):
        of_all = x, y
        x, y = thin(x, y)
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(x) <= 30 else {}
        colour = SPLIT_COLOURS.get(split) or next(spare)
        dense: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.6} if len(x) < len(of_all[0]) else {"linewidth": 1.4}
        y = np.log10(y) if logarithmic else y
        order = 2 if split == "train" else 3
        add_line(figure, x, y, transform=panel.transData, color=colour, zorder=order, **dense, **marker)
        if place < 6:
            last = f"{of_all[1][~np.isnan(of_all[1])][-1]:.4g}" if not np.isnan(of_all[1]).all() else "no finite value"
            # With many splits there is only room for names.
            label = f"— {shorten(split, 16)} {last}".strip() if len(splits) <= 3 else f"— {shorten(split, 12)}"
            across, up = place % 3, place // 3
            write(panel, 0.36 * across, 1.05 + 0.065 * up, label, size=8, color=colour, transform=panel.transAxes)
    whole = MaxNLocator(4, integer=True, min_n_ticks=1)
    if logarithmic:
        graduate(panel, whole, list(np.log10(log_ticks(values.min(), values.max()))), label=lambda power: 10**power)
    else:
        graduate(panel, whole, MaxNLocator(5))
    title(panel, shorten(metric.replace("_", " "), 40), pad=24)
    write(panel, 0.5, -0.17, "optimizer step", size=9, ha="center", va="top", transform=panel.transAxes)


def _finite(points: tuple[Sequence[int], Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, with NaN (a gap) for non-finite values."""
    steps, values = (np.asarray(numbers, dtype=float) for numbers in points)
    return steps, np.where(np.isfinite(values), values, np.nan)


def _with_margins(values: np.ndarray) -> tuple[float, float]:
    """The range of finite values with 5% more on either side."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS of a curve: minimum and maximum of each segment, so that no spike is lost."""
    if len(x) <= MAX_POINTS:
        return x, y
    stretches = np.array_split(np.arange(len(x)), MAX_POINTS // 2 - 1)
    low = np.where(np.isfinite(y), y, np.inf)
    high = np.where(np.isfinite(y), y, -np.inf)
    kept = {0, len(x) - 1}
    for stretch in stretches:
        kept |= {int(stretch[low[stretch].argmin()]), int(stretch[high[stretch].argmax()])}
    index = np.array(sorted(kept))
    return x[index], y[index]
