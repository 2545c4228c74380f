"""Learning curves: of all trials as bands, and of single runs from their logs."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studies.common.regular_files import open_regular
from studies.plots.ranges import can_be_drawn, floats, limits
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Metrics
from studies.reports.values import number, text_of

MOST_BYTES = 300_000_000  # of logs that are read for the bands: some seconds
MOST_POINTS = 400  # of one curve
MOST_STEPS = 300  # of the bands
MOST_THREADS = 40  # single trials drawn behind the bands

Series = dict[str, tuple[list[int], list[float]]]  # metric -> steps, values


def reported_values(folders: Mapping[int, Path], first: int | None = None) -> dict[int, list[float]]:
    """The metric at each validation of trials, from their logs; of many or long logs, those of a random sample.

    Args:
        folders: trial -> its folder.
        first: a trial that is in the sample.
    """
    numbers = sorted(folders)
    random.Random(0).shuffle(numbers)
    numbers.sort(key=lambda one: one != first)
    found: dict[int, list[float]] = {}
    left = MOST_BYTES
    for one in numbers:
        if left <= 0:
            break
        with contextlib.suppress(OSError), open_regular(folders[one] / NAME) as file:
            content = file.read(left)
            left -= len(content)
            if values := _reports(content):
                found[one] = values
    return found


# A line of a log as events.py writes it; parsing all of it would take ten times as long.
REPORT = re.compile(rb'"kind":"report",[^\n]*?"step":(\d{1,18}),[^\n]*?"value":(-?[\d.]{1,30}(?:e[-+]?\d{1,4})?)[,}]')


def _reports(content: bytes) -> list[float]:
    """The reported values in a log, without those that a resumed trial repeats."""
    last, values = -1, []
    for step, value in REPORT.findall(content):
        if int(step) > last:
            last = int(step)
            with contextlib.suppress(ValueError):
                values.append(float(value))
    return values


def bands(reports: Mapping[int, Sequence[float]], best: int | None, direction: str) -> dict[str, Any] | None:
    """The metric at each validation over all trials: smallest, quartiles, largest; and the best trial's own curve.

    Args:
        reports: trial -> its value at each validation.
        best: number of the best trial.

    Returns:
        None if no trial has two values: there is no curve.
    """
    numbers = sorted(reports)
    length = max(map(len, reports.values()), default=0)
    if length < 2:
        return None
    table = np.full((len(numbers), length), np.nan)  # (trial, validation)
    for row, one in enumerate(numbers):
        table[row, : len(reports[one])] = reports[one]
    table[~can_be_drawn(table)] = np.nan
    present = np.flatnonzero(~np.isnan(table).all(axis=0))
    if len(present) < 2:
        return None
    kept = present[np.unique(np.linspace(0, len(present) - 1, MOST_STEPS).astype(int))]
    low, quarter, median, three_quarters, high = np.nanquantile(table[:, kept], [0, 0.25, 0.5, 0.75, 1], axis=0)
    threads = np.unique(np.linspace(0, len(numbers) - 1, MOST_THREADS).astype(int))
    best_row = numbers.index(best) if best in numbers else None
    ends = table[np.arange(len(numbers)), np.clip((~np.isnan(table)).cumsum(axis=1).argmax(axis=1), 0, None)]
    low_end, high_end = limits(ends, direction)
    inside = np.concatenate([median, table[best_row] if best_row is not None else []])
    shown = min(low_end, float(np.nanmin(inside))), max(high_end, float(np.nanmax(inside)))
    names = ("low", "quarter", "median", "three_quarters", "high")
    rows = (low, quarter, median, three_quarters, high)
    return {
        "band": {
            "step": (kept + 1).tolist(),
            "trials": (~np.isnan(table[:, kept])).sum(axis=0).tolist(),
            **{name: [number(float(value), 5) for value in row] for name, row in zip(names, rows, strict=True)},
        },
        "lines": [_curve(table[row]) for row in threads],
        "best": {"trial": best, "values": _curve(table[best_row])} if best_row is not None else None,
        "range": {"low": number(shown[0], 5), "high": number(shown[1], 5)},  # rounded as the values are
        "of": len(numbers),
    }


def _curve(values: np.ndarray) -> list[float | None]:
    return [number(float(value), 5) for value in values]


def logged_series(folder: Path) -> Series:
    """All metrics in a run's log, by optimizer step; empty if it has no log here."""
    series: Series = {}
    for event in EventReader(folder / NAME).read():
        if isinstance(event, Metrics):
            for name, value in event.values.items():
                if name != "epoch":
                    steps, values = series.setdefault(name, ([], []))
                    steps.append(event.step)
                    values.append(value)
    return series


def line_charts(
    curves: Sequence[tuple[str, Series]], by_split: bool = False, first: str | None = None
) -> list[dict[str, Any]]:
    """The charts of some runs' metrics, losses and accuracies first: one for each metric.

    Args:
        curves: name of a run -> its metrics.
        by_split: for a single run: train, val and test of one metric share a chart, instead of runs.
        first: the metric of the first chart.
    """
    charts: dict[str, list[dict[str, Any]]] = {}
    order = {"train": 0, "val": 1, "test": 2}
    for place, (run, series) in enumerate(curves):
        for metric in sorted(series, key=lambda metric: (metric != first, _importance(metric))):
            steps, values = series[metric]
            split, _, last = metric.rpartition("/")
            name, colour = (split or "value", order.get(split, 3)) if by_split else (run, place)
            x, y = thinned(steps, values)
            charts.setdefault(last if by_split else metric, []).append(
                {"name": text_of(name, 60), "colour": colour, "x": x, "y": y}
            )
    for lines in charts.values():
        lines.sort(key=lambda line: int(line["colour"]))
    return [chart for metric, lines in charts.items() if (chart := _line_chart(metric, lines))]


def _importance(metric: str) -> tuple[int, str]:
    words = ("val/loss", "val/accuracy", "loss", "acc")
    return next((place for place, word in enumerate(words) if word in metric), len(words)), metric


def _line_chart(metric: str, lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    lines = [line for line in lines if any(value is not None for value in line["y"])]
    if not lines or max(len(line["x"]) for line in lines) < 2:  # one point is a number, and no curve
        return None
    values = floats([value for line in lines for value in line["y"] if value is not None])
    low, high = float(values.min()), float(values.max())
    log = bool(low > 0 and high > 50 * low)
    if low == high:
        low, high = limits(values, None)
    steps = [step for line in lines for step in line["x"]]
    if log:
        for line in lines:
            line["y"] = [value if value is not None and value > 0 else None for value in line["y"]]
    return {
        "title": text_of(metric),
        "unit": "optimizer step",
        "series": lines,
        "log": log,
        "range": {"low": number(low), "high": number(high)},
        "across": {"low": min(steps), "high": max(steps)},
    }


def thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float | None]]:
    """At most MOST_POINTS points: smallest and largest of each stretch, so that no spike is lost."""
    y = floats(values)
    if len(y) > MOST_POINTS:
        kept = {0, len(y) - 1}
        for stretch in np.array_split(np.arange(len(y)), MOST_POINTS // 2 - 1):
            part = y[stretch]
            if not np.isnan(part).all():
                kept |= {int(stretch[np.nanargmin(part)]), int(stretch[np.nanargmax(part)])}
        index = sorted(kept)
        return [int(steps[i]) for i in index], [number(float(y[i])) for i in index]
    return [int(step) for step in steps], [number(float(value)) for value in y]
