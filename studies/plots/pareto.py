"""Pictures of a study with several objectives: the Pareto front, and how it grew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from studies.plots.colours import BLUE, GREY, INK, ORANGE
from studies.plots.figure import DPI, log_ticks, message, new_figure, tidy, title

LARGEST = 1e100  # largest drawable value
MANY = 20  # a ratio of values from which a logarithmic axis reads best
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 5.2, 3.6, 0.95, 0.65, 0.3, 0.85  # inches of a panel and its margins


def pareto_front(
    number: Sequence[int],
    points: Mapping[str, Sequence[float]],
    state: Sequence[str],
    objectives: Mapping[str, str],
    front: Sequence[int],
) -> Figure:
    """The first objective against each further one; the Pareto front in orange.

    Args:
        number: trial numbers.
        points: objective -> a value per trial.
        state: COMPLETE or PRUNED, per trial.
        objectives: metric -> maximize or minimize, at least two.
        front: numbers of the trials of the front, the champion first.
    """
    first, *further = objectives
    values = {name: np.array(column, dtype=float) for name, column in points.items()}
    finite = np.all([np.abs(column) < LARGEST for column in values.values()], axis=0)
    complete = finite & (np.asarray(state, dtype=object) == "COMPLETE")
    if not complete.any():
        return message("Pareto front", "no trial has a value of every objective yet")
    across, up = len(further) * (LEFT + WIDTH + RIGHT), BOTTOM + HEIGHT + TOP
    figure = Figure(figsize=(across, up), dpi=DPI)
    on_front = complete & np.isin(number, front)
    groups = (
        ("pruned", finite & ~complete, "s", GREY, 22),
        ("dominated", complete & ~on_front, "o", BLUE, 26),
        ("Pareto front", on_front, "o", ORANGE, 40),
    )
    heading = f"Pareto front: {on_front.sum()} of {complete.sum()} complete trials"
    for index, name in enumerate(further):
        left = index * (LEFT + WIDTH + RIGHT) + LEFT
        axes = figure.add_axes((left / across, BOTTOM / up, WIDTH / across, HEIGHT / up))
        x, y = values[name], values[first]
        low, high = _limits(y[complete], y[on_front])
        outside = finite & ((y < low) | (y > high))
        for label, chosen, marker, colour, size in groups:
            inside = chosen & ~outside
            if chosen.any():
                said = f"{label} ({chosen.sum()})"
                axes.scatter(x[inside], y[inside], s=size, marker=marker, color=colour, label=said, zorder=3)
        for edge, marker, beyond in ((low, "v", finite & (y < low)), (high, "^", finite & (y > high))):
            if beyond.any():
                axes.scatter(
                    x[beyond],
                    np.full(beyond.sum(), edge),
                    s=34,
                    marker=marker,
                    facecolor="none",
                    edgecolor=[ORANGE if on else GREY for on in on_front[beyond]],
                    label=f"beyond the axis ({beyond.sum()})",
                    zorder=4,
                    clip_on=False,
                )
        if len(further) == 1:
            order = np.argsort(x[on_front], kind="stable")
            style: Any = "steps-post" if objectives[name] == "minimize" else "steps-pre"
            axes.plot(x[on_front][order], y[on_front][order], drawstyle=style, color=ORANGE, linewidth=1.2, alpha=0.7)
        champion = finite & (np.asarray(number) == front[0])
        axes.scatter(x[champion], y[champion], s=190, facecolor="none", edgecolor=ORANGE, linewidth=1.8, zorder=5)
        pad = 0.06 * (high - low)
        axes.set_ylim(low - pad, high + pad)
        tidy(axes)
        _scale_across(axes, x[finite])
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"{name} ({objectives[name]}d)", color=INK, parse_math=False)
        axes.set_ylabel(f"{first} ({objectives[first]}d)", color=INK, parse_math=False)
        title(axes, heading if index == 0 else "", pad=26)
        axes.legend(
            fontsize=8,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 0.98),
            ncols=4,
            borderpad=0.2,
            columnspacing=1.0,
            handletextpad=0.2,
        )
    return figure


def hypervolume(number: Sequence[int], share: Sequence[float]) -> Figure:
    """How the Pareto front grew from trial to trial.

    Args:
        number: numbers of the complete trials.
        share: the hypervolume after each: share of the space between the worst and the best values that the front
            dominates, 0 to 1.
    """
    if not number:
        return message("Hypervolume", "no trial has a value of every objective yet")
    figure, axes = new_figure(7.0, 3.0, left=0.85, bottom=0.65, right=0.3, top=0.55)
    axes.step(number, share, where="post", color=BLUE, linewidth=1.4)
    axes.scatter(number, share, s=18, color=BLUE, zorder=3)
    room = max(0.5, 0.03 * (number[-1] - number[0]))
    axes.set_xlim(number[0] - room, number[-1] + room)
    axes.set_ylim(0, 1.04)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    tidy(axes)
    title(axes, f"Hypervolume of the Pareto front: {share[-1]:.4g} after trial {number[-1]}")
    axes.set_xlabel("trial number", color=INK)
    axes.set_ylabel("share between worst and best", color=INK)
    return figure


def _limits(complete: np.ndarray, front: np.ndarray) -> tuple[float, float]:
    """The range to draw: the front and nine tenths of the complete trials, since an outlier would flatten the rest."""
    low, high = np.quantile(complete, (0.05, 0.95))
    low, high = float(min(low, front.min())), float(max(high, front.max()))
    return (low, high) if high > low else (low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5))


def _scale_across(axes: Axes, values: np.ndarray) -> None:
    """Makes the horizontal axis logarithmic if its values span decades."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high >= MANY * low:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        axes.set_xticks(log_ticks(low, high))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e5 else f"{value:.0e}"))
        return
    room = 0.06 * (high - low) or abs(low) * 0.05 or 0.5
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=all(math.floor(value) == value for value in values)))
