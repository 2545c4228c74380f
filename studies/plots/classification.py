"""Pictures for classification: plain lists and arrays in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from studies.plots.colours import BLUE, GREY, INK, ORANGE
from studies.plots.figure import message, new_panel, shorten, title, write

MAX_CLASSES_WITH_COUNTS = 20


def confusion_matrix(counts: Any, labels: Sequence[str]) -> Figure:
    """Confusion matrix. Correct answers are blue by recall, mistakes orange by their number.

    Args:
        counts: int (C, C), rows = truth, columns = prediction.
        labels: C class names.
    """
    counts = np.asarray(counts)
    classes = len(counts)
    of_truth = counts.sum(axis=1)
    recall = np.divide(counts.diagonal(), of_truth, out=np.zeros(classes), where=of_truth > 0)
    wrong = counts * (1 - np.eye(classes, dtype=counts.dtype))
    # Mistakes are too few to be visible on the scale of correct answers. Their scale ends at the most frequent
    # mistake, but at least at 3% of a class, so that a good classifier's matrix is pale.
    rate = wrong / np.maximum(of_truth, 1)[:, None]
    share = 0.85 * rate / max(0.03, rate.max(initial=0)) + 0.1 * (wrong > 0)
    np.fill_diagonal(share, 0.15 + 0.85 * recall**3)
    colour = np.where(np.eye(classes, dtype=bool)[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    pixels = 255 * (1 - share[..., None] * (1 - colour))  # (C, C, 3), from white to the colour

    names = [shorten(label, 18) for label in labels]
    every = math.ceil(classes / 40)  # closer labels would overlap
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
    """A gallery of misclassified images, each with true and predicted class and their probabilities.

    Args:
        images: float (N, H, W) or (N, H, W, 3), of 0 to 1.
        truth: N names of the true classes.
        predicted: N names of the predicted classes.
        truth_probability: N probabilities given to the true class.
        predicted_probability: N probabilities given to the predicted class.
    """
    if len(images) == 0:
        return message("Worst mistakes", "no mistake was made")
    count = len(images)
    captions = [
        (
            (f"true {shorten(truth[index], 10)}  {_percent(truth_probability[index])}", BLUE),
            (f"taken for {shorten(predicted[index], 10)}  {_percent(predicted_probability[index])}", ORANGE),
        )
        for index in range(count)
    ]
    return gallery(images, captions, f"The {count} worst mistakes" if count > 1 else "The one mistake")


def gallery(images: Any, captions: Sequence[Sequence[tuple[str, str]]], heading: str, most: int = 5) -> Figure:
    """Images in rows, each with lines below it.

    Args:
        images: float (N, H, W) or (N, H, W, 3), of 0 to 1; N at least 1.
        captions: of each image, lines with their colours; the same number for all.
        most: images in a row.
    """
    images = np.uint8(np.clip(np.nan_to_num(np.asarray(images, dtype=float)), 0, 1) * 255)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    count, height, width = images.shape[:3]
    columns = min(most, max(3, count))
    rows = math.ceil(count / columns)
    across, down = (
        width + math.ceil(width / 14),
        height + math.ceil(height * 0.15 * len(captions[0])),
    )  # size of an image with gap and caption
    # One mosaic: 25 axes, or 25 images in one, would take half a second.
    mosaic = np.full((rows * down, columns * across, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * across
        mosaic[top : top + height, left : left + width] = image
    longest = max(len(text) for lines in captions for text, _ in lines)
    inch = (1.2 if longest < 19 else 1.5) / max(width, height)  # per pixel
    size, edges = (columns * across * inch, rows * down * inch), (-0.5, columns * across - 0.5)
    figure, axes = new_panel(
        *size, left=0.2, bottom=0.1, right=0.2, top=0.55, across=edges, up=(rows * down - 0.5, -0.5)
    )
    axes.image(mosaic)
    title(axes, heading)
    for index, lines in enumerate(captions):
        left, bottom = index % columns * across - 0.5, index // columns * down + height - 0.5
        for line, (text, colour) in enumerate(lines):
            points = 8 if len(text) < 23 else 6.5
            write(axes, left, bottom + (0.03 + 0.17 * line) / inch, text, size=points, color=colour, va="top")
    return figure


def _percent(probability: float) -> str:
    """0.000012 -> "<0.1%", so that no nonzero probability reads as 0."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"
