"""A study's pictures: plain lists in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREY, INK, ORANGE
from studies.plots.figure import DPI, log_ticks, message, new_figure, shorten, tidy, title
from studies.plots.ranges import LARGEST, can_be_drawn, floats, limits

# One hue from light to dark: also readable in greyscale and by colour-blind readers.
SHADES = LinearSegmentedColormap.from_list("shades", ["#D7E6F2", "#7FB3D9", BLUE, "#00304D"])


def study_history(
    number: Sequence[int], value: Sequence[float | None], state: Sequence[str], metric: str, direction: str
) -> Figure:
    """Each trial's value in the order of trials, and the best so far.

    Args:
        number: trial numbers.
        value: the metric's value; None or NaN if missing.
        state: COMPLETE, PRUNED, FAIL, ...; only complete trials can be the best.
        metric: its name.
        direction: maximize or minimize.
    """
    order = np.argsort(number, kind="stable")
    at = np.asarray(number)[order]
    values, states = floats(value)[order], np.asarray(state, dtype=object)[order]
    if len(at) == 0:
        return message(f"{metric} of each trial", "there are no trials")
    complete = (states == "COMPLETE") & can_be_drawn(values)
    figure, axes = new_figure(7.0, 3.4, left=0.85, bottom=0.65, right=0.3, top=0.85)
    low, high = limits(values, direction)
    pad = 0.06 * (high - low)
    inside = can_be_drawn(values) & (values >= low) & (values <= high)
    kinds = (
        ("complete", complete, "o", BLUE),
        ("pruned", (states == "PRUNED") & can_be_drawn(values), "s", GREY),
        ("no value", ~can_be_drawn(values), "x", ORANGE),
    )
    for name, chosen, marker, colour in kinds:
        if not chosen.any():
            continue
        label = f"{name} ({chosen.sum()})"
        chosen = chosen & (inside | ~can_be_drawn(values))
        y = np.where(inside, values, low - pad)[chosen]
        axes.scatter(at[chosen], y, s=30, marker=marker, color=colour, clip_on=False, label=label, zorder=3)
    _mark_beyond(axes, at, values, (low, high), pad, legend=True)
    heading = f"{metric} of each trial"
    if complete.any():
        running = np.maximum.accumulate if direction == "maximize" else np.minimum.accumulate
        best = running(values[complete])
        axes.step(
            [*at[complete], at[-1]],
            [*best, best[-1]],  # from beyond the axis, if the first trial is there
            where="post",
            color=BLUE,
            linewidth=1.2,
            alpha=0.7,
            label="best so far",
        )
        winner = _best(np.where(complete, values, np.nan), direction)
        axes.scatter(at[winner], values[winner], s=190, facecolor="none", edgecolor=ORANGE, linewidth=1.8, zorder=5)
        heading += f": best {values[winner]:.4g} in trial {at[winner]}"
    axes.set_ylim(low - pad, high + pad)
    room = max(0.5, 0.03 * (at[-1] - at[0]))
    axes.set_xlim(at[0] - room, at[-1] + room)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    tidy(axes)
    title(axes, heading, pad=26)
    axes.set_xlabel("trial number", color=INK)
    axes.set_ylabel(f"{metric} ({direction}d)", color=INK, parse_math=False)
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=5, borderpad=0.2)
    return figure


def _mark_beyond(
    axes: Axes, x: Any, values: np.ndarray, shown: tuple[float, float], pad: float, legend: bool = False
) -> None:
    """Triangles at the rim for values beyond the range that is shown; they point to where the values are."""
    low, high = shown
    for outside, marker, rim in ((values > high, "^", high + 0.6 * pad), (values < low, "v", low - 0.6 * pad)):
        outside = outside & can_be_drawn(values)
        if outside.any():
            label = f"beyond the axis ({outside.sum()})" if legend else None
            at = np.asarray(x)[outside]
            axes.scatter(at, [rim] * len(at), s=36, marker=marker, color=ORANGE, zorder=4, label=label, clip_on=False)


class Scale:
    """Maps a parameter's values to an axis from 0 to 1, with ticks.

    Numbers are placed by value or, if `log` and all are positive, by logarithm. Everything else (words, lists,
    booleans, mixed types, infinities) is a category. Ticks of numbers are at least `apart` from one another.

    Args:
        ends: the smallest and largest value that may occur: the axis reaches that far.

    Attributes:
        minor: places of ticks without a label, at 2, 3, ... 9 times each power of ten of a logarithmic axis.
    """

    def __init__(
        self, values: Sequence[Any], log: bool, apart: float = 0.06, ends: tuple[float, float] | None = None
    ) -> None:
        self.is_category = not all(_is_number(value) for value in values)
        self.minor: list[float] = []
        self.ticks: list[float]
        self.labels: list[str]
        if self.is_category:
            names = [category(value) for value in values]
            first = {category(value): value for value in values}
            try:
                self.labels = sorted(first, key=first.__getitem__)
            except TypeError:  # not comparable, e.g. None and a word
                self.labels = sorted(first)
            self.ticks = [(index + 0.5) / len(self.labels) for index in range(len(self.labels))]
            self.places = np.array([self.ticks[self.labels.index(name)] for name in names])
            return
        numbers = np.asarray(values, dtype=float)
        choices = np.unique(numbers)
        low, high = choices[0], choices[-1]
        if ends is not None:
            low, high = min(low, ends[0]), max(high, ends[1])
        log = log and low > 0
        # A few round numbers are choices, which are ticks themselves.
        are_choices = len(choices) <= 6 and ends is None and all(value == float(f"{value:.3g}") for value in choices)
        if not are_choices and high > low:
            choices = np.array(log_ticks(low, high) if log else MaxNLocator(4).tick_values(low, high))
        if log:
            numbers, low, high = np.log10(numbers), math.log10(low), math.log10(high)
        if log and not are_choices and 0 < high - low < 4:
            powers = range(math.floor(low), math.ceil(high))
            places = ((power + math.log10(factor) - low) / (high - low) for power in powers for factor in range(2, 10))
            self.minor = [place for place in places if 0 <= place <= 1]
        span = (high - low) or 1.0
        start = low if high > low else low - 0.5
        self.places = (numbers - start) / span
        at = ((np.log10(np.maximum(choices, 1e-300)) if log else choices) - start) / span
        kept: list[tuple[float, str]] = []
        for place, choice in zip(at, choices, strict=True):
            if -1e-9 <= place <= 1 + 1e-9 and (not kept or place - kept[-1][0] > apart):  # avoid overlaps
                kept.append((float(place), f"{choice:.4g}"))
        self.ticks, self.labels = [place for place, _ in kept], [text for _, text in kept]


def parallel_coordinates(
    params: dict[str, Sequence[Any]],
    value: Sequence[float],
    metric: str,
    direction: str,
    log: set[str],
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Each trial as a line through its parameters to its metric; the better the darker, the best in orange.

    Args:
        params: parameter name -> a value per trial.
        value: the metric's value per trial; trials without a finite one are grey. Lines to bad outliers end in a dotted
            part and a triangle.
        metric: its name.
        direction: maximize or minimize.
        log: the parameters with a logarithmic axis.
        ends: parameter -> the ends of its range, if it has one.
    """
    values = floats(value)
    finite = can_be_drawn(values)
    if not finite.any() or not params:
        return message("Parameters and metric", "no trial has a value yet")
    low, high = limits(values, direction)
    goodness = Normalize(low, high)(np.clip(values, low, high)).filled(np.nan)
    goodness = goodness if direction == "maximize" else 1 - goodness
    scales = {name: Scale(column, name in log, ends=(ends or {}).get(name)) for name, column in params.items()}
    last = Scale(list(np.clip(values[finite], low, high)), False)
    heights = [_jittered(scale, goodness) for scale in scales.values()]
    heights.append(np.where(finite, np.interp(np.clip(values, low, high), (low, high), (0, 1)), np.nan))
    best = _best(values, direction)

    figure, axes = new_figure(max(5.5, 1.75 * len(params)), 3.6, left=1.1, bottom=0.45, right=1.0, top=0.95)
    axes.set(xlim=(0, len(params)), ylim=(-0.04, 1.04))
    axes.axis("off")
    order = [*np.flatnonzero(~finite), *sorted(np.flatnonzero(finite), key=lambda trial: goodness[trial])]
    lines = [[(x, column[trial]) for x, column in enumerate(heights) if np.isfinite(column[trial])] for trial in order]
    colours = [SHADES(goodness[trial]) if finite[trial] else "#DDDDDD" for trial in order]
    style: dict[str, Any] = {"linewidths": 1.3, "alpha": 0.9}
    outside = finite & ((values < low) | (values > high))
    whole = [line if not outside[trial] else line[:-1] for line, trial in zip(lines, order, strict=True)]
    axes.add_collection(LineCollection(whole, colors=colours, **style))
    last_parts = [line[-2:] for line, trial in zip(lines, order, strict=True) if outside[trial]]
    axes.add_collection(LineCollection(last_parts, colors=GREY, linestyles=":", **style))
    _mark_beyond(axes, [len(params)] * len(values), np.interp(values, (low, high), (0, 1), -9, 9), (0, 1), 0.06)
    axes.plot(range(len(heights)), [column[best] for column in heights], color=ORANGE, linewidth=2.6, zorder=5)
    for x, (name, scale) in enumerate([*scales.items(), (metric, last)]):
        axes.axvline(x, color=INK, linewidth=0.8, zorder=6, clip_on=False)
        axes.scatter([x] * len(scale.minor), scale.minor, s=14, marker="_", color=INK, linewidth=0.6, zorder=6)
        heading = "\n".join(_wrap(short(name, params) if name in params else name, 14))
        weight = "normal" if name in params else "bold"
        axes.text(x, 1.06, heading, size=9, ha="center", va="bottom", weight=weight, color=INK, parse_math=False)
        every = math.ceil(len(scale.ticks) / 14)
        for tick, text in list(zip(scale.ticks, scale.labels, strict=True))[::every]:
            right = x == len(params)
            axes.text(
                x + (0.03 if right else -0.03),
                tick,
                shorten(text, 16),
                size=8,
                color=INK,
                zorder=7,
                va="center",
                ha="left" if right else "right",
                parse_math=False,
                bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "edgecolor": "none"},
            )
    heading = f"Trials by {metric} ({direction}d): darker is better, orange is the best, {values[best]:.4g}"
    if outside.any():
        note = f"{outside.sum()} beyond the axis"
        axes.text(len(params), -0.1, note, size=8, ha="center", va="top", color=ORANGE, parse_math=False)
    figure.text(
        0.3 / figure.get_figwidth(),
        1 - 0.12 / figure.get_figheight(),
        heading,
        size=11,
        weight="bold",
        color=INK,
        va="top",
        parse_math=False,
    )
    return figure


def importance(importances: dict[str, float], metric: str, of: tuple[int, int] | None = None) -> Figure:
    """Parameter importances, most important on top.

    Args:
        importances: parameter name -> share of the metric's variance over the space that it explains, 0 to 1.
        metric: its name.
        of: number of trials used, and of all trials; None: all were used.
    """
    if not importances:
        return message(f"Importance for {metric}", "too few trials to tell")
    ordered = sorted(importances.items(), key=lambda item: np.nan_to_num(item[1]))
    shares = np.nan_to_num([share for _, share in ordered]) * 100
    names = [shorten(short(name, importances), 28) for name, _ in ordered]
    margin = 0.3 + 0.085 * max(map(len, names))
    figure, axes = new_figure(5.0, 0.42 * len(names), left=margin, bottom=0.65, right=0.75, top=0.55)
    axes.barh(range(len(names)), shares, color=BLUE, height=0.6)
    for row, share in enumerate(shares):
        axes.text(share, row, f" {share:.1f}%", size=9, color=INK, va="center")
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(ylim=(-0.6, len(names) - 0.4), xlim=(0, max(1.0, shares.max())))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    tidy(axes)
    axes.grid(visible=False, axis="y")
    title(axes, f"What decides {metric}")
    sample = "" if of is None or of[0] >= of[1] else f" (by {of[0]} of {of[1]} trials, drawn at random)"
    axes.set_xlabel(f"share of its variance explained, %{sample}", color=INK)
    return figure


def slices(
    params: dict[str, Sequence[Any]],
    value: Sequence[float],
    metric: str,
    log: set[str],
    direction: str | None = None,
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """The metric against each parameter on its own; later trials are darker.

    Args:
        params: parameter name -> a value per trial, in the order of trials.
        value: the metric's value per trial; trials without a finite one are left out.
        metric: its name.
        log: the parameters with a logarithmic axis.
        direction: maximize or minimize; if given, bad outliers are triangles at the rim.
        ends: parameter -> the ends of its range, if it has one.
    """
    values = floats(value)
    kept = np.flatnonzero(can_be_drawn(values)).tolist()
    if len(kept) == 0 or not params:
        return message(f"{metric} by parameter", "no trial has a value yet")
    low, high = limits(values, direction)
    shown, pad = values[kept], 0.06 * (high - low)
    inside = (shown >= low) & (shown <= high)
    columns = min(4, len(params))
    rows = math.ceil(len(params) / columns)
    left, cell, height, top, below = 0.85, 2.6, 2.2, 0.75, 0.85  # inches
    across, up = max(5.5, left + columns * cell), top + rows * (height + below)
    figure = Figure(figsize=(across, up), dpi=DPI)
    shades = SHADES(np.linspace(0.15, 1, len(kept)))
    for index, (name, column) in enumerate(params.items()):
        x, y = left + index % columns * cell, up - top - (index // columns + 1) * (height + below) + below
        axes = figure.add_axes((x / across, y / up, (cell - 0.25) / across, height / up))
        scale = Scale([column[trial] for trial in kept], name in log, apart=0.18, ends=(ends or {}).get(name))
        places = _jittered(scale, np.arange(len(kept)) / max(1, len(kept) - 1))
        axes.scatter(places[inside], shown[inside], s=26, c=shades[inside], edgecolor="white", linewidth=0.4)
        _mark_beyond(axes, places, shown, (low, high), pad)
        _slice_axes(axes, scale, short(name, params), first=index % columns == 0)
        axes.set_ylim(low - pad, high + pad)
    clipped = int((~inside).sum())
    heading = f"{metric} by parameter: later trials are darker"
    figure.text(
        left / across,
        1 - 0.15 / up,
        heading + (f"; {clipped} beyond the axis" if clipped else ""),
        size=11,
        weight="bold",
        color=INK,
        va="top",
        parse_math=False,
    )
    return figure


def _slice_axes(axes: Axes, scale: Scale, name: str, first: bool) -> None:
    tidy(axes)
    crowded = sum(len(text) + 2 for text in scale.labels) > 32
    every = 2 if crowded and not scale.is_category else math.ceil(len(scale.ticks) / 12)
    crowded = crowded and scale.is_category
    texts = [shorten(text, 14) for text in scale.labels[::every]]
    axes.set_xticks(
        scale.ticks[::every],
        texts,
        rotation=35 if crowded else 0,
        ha="right" if crowded else "center",
        rotation_mode="anchor",
        size=8 if crowded else 9,
        parse_math=False,
    )
    axes.set_xticks(scale.minor, minor=True)
    axes.tick_params(axis="x", which="minor", length=2, color=INK)
    axes.set_xlim(-0.06, 1.06)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelleft=first)
    axes.set_title(shorten(name, 30), size=10, color=INK, parse_math=False)


def short(name: str, among: Any) -> str:
    """model.learning_rate -> learning_rate, unless ambiguous among the names."""
    last = name.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in among) == 1 else name


def category(value: Any) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list | tuple) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and abs(float(value)) < LARGEST


def _best(values: np.ndarray, direction: str) -> int:
    finite = np.where(can_be_drawn(values), values, -np.inf if direction == "maximize" else np.inf)
    return int(finite.argmax() if direction == "maximize" else finite.argmin())


def _jittered(scale: Scale, rank: np.ndarray) -> np.ndarray:
    """Positions of one category's trials, spread by rank (0 to 1) to avoid overlaps."""
    if not scale.is_category:
        return scale.places
    return scale.places + (np.nan_to_num(rank) - 0.5) * 0.5 / len(scale.ticks)


def _wrap(name: str, width: int) -> list[str]:
    """Wraps a name to at most two lines, preferably at an underscore, dot or slash."""
    if len(name) <= width:
        return [name]
    breaks = [index + 1 for index, letter in enumerate(name) if letter in "_./" and index < width]
    at = breaks[-1] if breaks else width
    return [name[:at], shorten(name[at:], width)]
