"""Pictures for segmentation and detection: plain arrays in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from studies.plots.colours import ORANGE, SKY
from studies.plots.figure import new_figure, shorten, title, write

GAP = 4  # pixels between images
Box = Sequence[float]  # left, top, right and bottom edge in pixels


def masked_canvases(images: Any, truth: Any, predicted: Any, labels: Sequence[str]) -> Figure:
    """A row of images, below it the true class of each pixel, and below that the predicted class.

    Args:
        images: float (N, H, W).
        truth: int (N, H, W), 0 for background, 1 + c for class c.
        predicted: int (N, H, W).
        labels: C class names.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    colours = np.vstack([[0.13, 0.13, 0.13], colormaps["tab10"](np.arange(len(labels)) % 10)[:, :3]])
    rows = [np.repeat(_stretched(images)[..., None], 3, axis=-1), colours[truth], colours[predicted]]
    figure, axes, (_, down) = _grid([image for row in rows for image in row], len(truth), right=1.0)
    for row, text in enumerate(("image", "true", "predicted")):
        write(axes, -4, row * down + (down - GAP) / 2, text, size=9, ha="right")
    for index, name in enumerate(labels):
        place = 1.01, 0.97 - 0.08 * index
        text = f"■ {shorten(name, 8)}"
        write(axes, *place, text, size=9, color=to_hex(colours[1 + index]), transform=axes.transAxes)
    figures = (truth > 0) | (predicted > 0)
    right = float((truth == predicted)[figures].mean()) if figures.any() else 1.0
    title(axes, f"Segmented: {100 * right:.1f}% correct of pixels with a true or predicted class")
    return figure


def boxed_canvases(
    images: Any, truth: Sequence[Sequence[tuple[str, Box]]], predicted: Sequence[Sequence[tuple[str, Box]]]
) -> Figure:
    """Images with true and predicted boxes, each with its class.

    Args:
        images: float (N, H, W).
        truth: for each image, class and box of each object.
        predicted: the same for predictions.
    """
    shown = _stretched(images)
    columns = min(4, len(shown))
    figure, axes, (across, down) = _grid(list(np.repeat(shown[..., None], 3, axis=-1)), columns, right=0.2)
    height, width = shown.shape[1:]
    for boxes, colour, line, side in ((truth, SKY, 3.0, "left"), (predicted, ORANGE, 1.2, "right")):
        edges = []
        for index, of_image in enumerate(boxes):
            x, y = index % columns * across - 0.5, index // columns * down - 0.5
            for name, box in of_image:
                left, right = (x + min(max(place, 0), width) for place in (box[0], box[2]))
                top, bottom = (y + min(max(place, 0), height) for place in (box[1], box[3]))
                edges.append([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
                # Above the box, or below it if there is no room; on the digit it would be illegible.
                place = left if side == "left" else right, top - 3.5 if top - y > 6 else bottom + 3.5
                write(axes, *place, shorten(name, 6), ha=side, color=colour, size=9)
        axes.add_collection(LineCollection(edges, colors=colour, linewidths=line), autolim=False)
    found = sum(map(len, predicted))
    title(axes, f"Detected: {found} boxes predicted (thin, orange), {sum(map(len, truth))} true (thick, blue)")
    return figure


def _stretched(images: Any) -> np.ndarray:
    """(N, H, W) of any range -> 0..1, each stretched to its own range."""
    images = np.nan_to_num(np.asarray(images, dtype=float))
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    return (images - low) / np.maximum(high - low, 1e-12)


def _grid(images: list[np.ndarray], columns: int, right: float) -> tuple[Figure, Any, tuple[int, int]]:
    """One mosaic of images (H, W, 3), and the distance between images in pixels, across and down."""
    height, width = images[0].shape[:2]
    across, down = width + GAP, height + GAP
    rows = -(-len(images) // columns)
    mosaic = np.ones((rows * down - GAP, columns * across - GAP, 3))
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * across
        mosaic[top : top + height, left : left + width] = image
    inch = (1.05 if rows > 2 else 1.9) / max(width, height)  # per pixel
    size = mosaic.shape[1] * inch, mosaic.shape[0] * inch
    figure, axes = new_figure(*size, left=0.6 if rows > 2 else 0.2, bottom=0.15, right=right, top=0.55)
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.axis("off")
    return figure, axes, (across, down)
