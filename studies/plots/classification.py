"""A run's pictures: plain lists and arrays in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY
from studies.plots.figure import DPI, graduate, log_ticks, message, new_figure, new_panel, shorten, tidy, title, write
from studies.plots.panel import Panel, add_line

MAX_CLASSES_WITH_COUNTS = 20
MAX_POINTS = 1000  # of one curve; more cannot be seen
MAX_CURVE_AXES = 12
MAX_WORDS = 40


def confusion_matrix(counts: Any, labels: Sequence[str]) -> Figure:
    """Which class is taken for which. Right answers are blue by the class's recall, mistakes orange by their number.

    Args:
        counts: int (C, C), rows = truth, columns = prediction.
        labels: C class names.
    """
    counts = np.asarray(counts)
    classes = len(counts)
    of_truth = counts.sum(axis=1)
    recall = np.divide(counts.diagonal(), of_truth, out=np.zeros(classes), where=of_truth > 0)
    wrong = counts * (1 - np.eye(classes, dtype=counts.dtype))
    # Mistakes are few beside right answers: on one common scale they could not be seen. Theirs ends at the
    # most frequent mistake, but not under 3% of a class, so that a good classifier's matrix is a pale one.
    rate = wrong / np.maximum(of_truth, 1)[:, None]
    share = 0.85 * rate / max(0.03, rate.max(initial=0)) + 0.1 * (wrong > 0)
    np.fill_diagonal(share, 0.15 + 0.85 * recall**3)
    colour = np.where(np.eye(classes, dtype=bool)[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    pixels = 255 * (1 - share[..., None] * (1 - colour))  # (C, C, 3), from white to the colour

    names = [shorten(label, 18) for label in labels]
    every = math.ceil(classes / 40)  # labels closer than that would overlap
    ticks, shown = range(0, classes, every), names[::every]
    side = min(7.0, max(3.6, 0.52 * classes))
    longest = max(map(len, shown), default=0)
    upright = longest * len(shown) > 9 * side
    left = 0.65 + 0.075 * longest
    bottom, places = left if upright else 0.7, (-0.5, classes - 0.5)
    figure, axes = new_panel(side, side, left=left, bottom=bottom, right=0.85, top=0.6, across=places, up=places[::-1])
    axes.image(pixels.round().astype(np.uint8))
    total, right = int(counts.sum()), int(counts.trace())
    title(axes, f"Confusion matrix: {right} of {total} right" + (f" ({right / total:.2%})" if total else ""))
    beside = axes.get_yaxis_transform()  # x in widths of the axes, y in rows
    below = axes.get_xaxis_transform()
    for place, name in zip(ticks, shown, strict=True):
        write(axes, place, -0.1 / side, name, size=9, ha="center", va="top", transform=below, rotation=90 * upright)
        write(axes, -0.1 / side, place, name, size=9, ha="right", transform=beside)
    middle = {"size": 10, "ha": "center", "transform": axes.transAxes}
    write(axes, 0.5, -(left - 0.15 if upright else 0.5) / side, "predicted class", **middle)
    write(axes, -(left - 0.2) / side, 0.5, "true class", rotation=90, **middle)
    write(axes, 1.02, 1.02, "recall", size=8, color=GREY, va="bottom", transform=axes.transAxes)
    for row in ticks:
        write(axes, 1.02, row, f"{recall[row]:.1%}" if of_truth[row] else "none", size=8, transform=beside)
    if classes <= MAX_CLASSES_WITH_COUNTS:
        size = 9 if counts.max(initial=0) < 10_000 and classes <= 12 else 7
        for row, column in zip(*counts.nonzero(), strict=True):
            ink = "white" if share[row, column] > 0.6 else INK
            write(axes, column, row, str(counts[row, column]), size=size, color=ink, ha="center")
    return figure


def worst_mistakes(
    images: Any,
    truth: Sequence[str],
    predicted: Sequence[str],
    truth_probability: Sequence[float],
    predicted_probability: Sequence[float],
) -> Figure:
    """A gallery of wrongly classified images, each with its true and its predicted class and their probabilities.

    Args:
        images: float (N, H, W) or (N, H, W, 3), of 0 to 1.
        truth: N names of the true classes.
        predicted: N names of the predicted classes.
        truth_probability: N probabilities given to the true class.
        predicted_probability: N probabilities given to the predicted class.
    """
    images = np.uint8(np.clip(np.nan_to_num(np.asarray(images, dtype=float)), 0, 1) * 255)
    if len(images) == 0:
        return message("Worst mistakes", "no mistake was made")
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    count, height, width = images.shape[:3]
    columns = min(5, max(3, count))
    rows = math.ceil(count / columns)
    across, down = width + math.ceil(width / 14), height + math.ceil(height * 0.3)  # of an image with gap and caption
    # One mosaic: 25 axes, or 25 images in one, would take half a second.
    mosaic = np.full((rows * down, columns * across, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * across
        mosaic[top : top + height, left : left + width] = image
    captions = [
        (
            (f"true {shorten(truth[index], 10)}  {_percent(truth_probability[index])}", BLUE),
            (f"taken for {shorten(predicted[index], 10)}  {_percent(predicted_probability[index])}", ORANGE),
        )
        for index in range(count)
    ]
    longest = max(len(text) for pair in captions for text, _ in pair)
    inch = (1.2 if longest < 19 else 1.5) / max(width, height)  # per pixel
    size, edges = (columns * across * inch, rows * down * inch), (-0.5, columns * across - 0.5)
    figure, axes = new_panel(
        *size, left=0.2, bottom=0.1, right=0.2, top=0.55, across=edges, up=(rows * down - 0.5, -0.5)
    )
    axes.image(mosaic)
    title(axes, f"The {count} worst mistakes" if count > 1 else "The one mistake")
    for index, pair in enumerate(captions):
        left, bottom = index % columns * across - 0.5, index // columns * down + height - 0.5
        for line, (text, colour) in enumerate(pair):
            points = 8 if len(text) < 23 else 6.5
            write(axes, left, bottom + (0.03 + 0.17 * line) / inch, text, size=points, color=colour, va="top")
    return figure


def decoded_words(source: Sequence[str], target: Sequence[str], predicted: Sequence[str]) -> Figure:
    """Words as read, as meant and as written: the wrong ones first, their wrong letters in orange.

    Args:
        source: N words as the encoder reads them.
        target: N words as they should be written.
        predicted: N words as the decoder wrote them.
    """
    words = sorted(zip(source, target, predicted, strict=True), key=lambda word: word[1] == word[2])[:MAX_WORDS]
    if not words:
        return message("Decoded words", "there are no words")
    words = [(shorten(a, 22), *_shorten_together(b, c, 22)) for a, b, c in words]
    widths = [max(6, *(len(word[column]) for word in words)) for column in range(3)]
    starts = [0, 3, 3 + widths[0] + 3, 3 + widths[0] + widths[1] + 6]  # of the columns, in characters
    across = max(44, starts[3] + widths[2])
    size, lines = (across * 0.09, (len(words) + 1.2) * 0.23), (len(words) - 0.4, -1.6)
    figure, axes = new_panel(*size, left=0.3, bottom=0.15, right=0.3, top=0.6, across=(0, across), up=lines)
    wrong = sum(word[1] != word[2] for word in words)
    title(axes, f"Decoded words, a sample: {wrong} wrong, {len(words) - wrong} right")
    style: dict[str, Any] = {"size": 10, "family": "monospace"}
    for start, name in zip(starts[1:], ("source", "target", "predicted"), strict=True):
        write(axes, start, -1, name, color=GREY, **style)
    add_line(figure, [0, across], [-0.6, -0.6], transform=axes.transData, color=GREY, linewidth=0.6)
    for row, (read, meant, written) in enumerate(words):
        right = meant == written
        write(axes, 0, row, "✓" if right else "✗", color=GREEN if right else ORANGE, **style)
        write(axes, starts[1], row, read, color=GREY, **style)
        write(axes, starts[2], row, meant, **style)
        # The right letters, and over them the wrong and missing ones, which fall into the gaps: all are as wide.
        fits = [index < len(meant) and meant[index] == letter for index, letter in enumerate(written)]
        kept = "".join(letter if fit else " " for letter, fit in zip(written, fits, strict=True))
        amiss = "".join(" " if fit else letter for letter, fit in zip(written, fits, strict=True))
        amiss += "_" * (len(meant) - len(written))
        for letters, colour in ((kept, INK), (amiss, ORANGE)):
            if letters.strip():
                write(axes, starts[3], row, letters, color=colour, **style)
    return figure


def exact_match_by_length(length: Sequence[int], correct: Sequence[int], total: Sequence[int]) -> Figure:
    """The share of words written without any error, by length, with 95% Wilson score intervals (Wilson 1927).

    Args:
        length: word lengths, in characters.
        correct: words of that length that were written right.
        total: words of that length.
    """
    n, right = np.asarray(total, dtype=float), np.asarray(correct, dtype=float)
    seen = n > 0
    at, n, right = np.asarray(length)[seen], n[seen], right[seen]
    if len(at) == 0:
        return message("Exact match by word length", "there are no words")
    share, z = right / n, 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)

    figure, axes = new_figure(min(9.0, max(5.0, 0.55 * len(at))), 3.2, left=0.8, bottom=0.85, right=0.2, top=0.6)
    axes.vlines(at, low * 100, high * 100, color=SKY, linewidth=5, alpha=0.6)
    axes.plot(at, share * 100, "o", color=BLUE, markersize=6)
    room = max(1.0, 100 - low.min() * 100)
    axes.set_ylim(100 - room * 1.12, 100 + room * 0.08)
    title(axes, f"Exact match by word length: {right.sum() / n.sum():.2%} of {int(n.sum())} words")
    every = math.ceil(len(at) / 16)
    names = [f"{a}\n{int(count)}" for a, count in zip(at, n, strict=True)]
    axes.set_xticks(at[::every], names[::every])
    tidy(axes)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("characters in the word, and number of such words", color=INK)
    axes.set_ylabel("written without error, %", color=INK)
    return figure


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
            # Of many there is room for the names alone.
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
    """Steps and values, NaN where they are not finite: a gap."""
    steps, values = (np.asarray(numbers, dtype=float) for numbers in points)
    return steps, np.where(np.isfinite(values), values, np.nan)


def _with_margins(values: np.ndarray) -> tuple[float, float]:
    """The range of finite values with 5% more on either side."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS of a curve: the lowest and the highest of each stretch, so that no spike is lost."""
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


def _shorten_together(target: str, predicted: str, length: int) -> tuple[str, str]:
    """Both words, cut; two words that differ are still two words that differ."""
    short = shorten(target, length), shorten(predicted, length)
    if target != predicted and short[0] == short[1]:
        start = next((i for i, (a, b) in enumerate(zip(target, predicted, strict=False)) if a != b), length)
        start = max(0, min(start, max(len(target), len(predicted))) - length // 2)
        return shorten("…" + target[start:], length), shorten("…" + predicted[start:], length)
    return short


def _percent(probability: float) -> str:
    """0.000012 -> "<0.1%", so that no probability of a mistake reads as nothing at all."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"
