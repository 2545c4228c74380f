"""Pictures of what a model has learnt, by task and layer: plain arrays in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from studies.plots.figure import DPI, graduate, log_ticks, message, new_figure, shorten, title, write

CLASS_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)
MAX_POINTS = 1500


def decision_boundary(
    across: Any, up: Any, probabilities: Any, points: Any, classes: Any, labels: Sequence[str]
) -> Figure:
    """The decision regions of a model of two features, with samples.

    Args:
        across: (X,) values of the first feature.
        up: (Y,) values of the second.
        probabilities: (Y, X, C) of each class at each of these points, rows from bottom to top.
        points: (N, 2) samples.
        classes: (N,) their true classes.
        labels: C class names.
    """
    across, up, probabilities = np.asarray(across), np.asarray(up), np.asarray(probabilities)
    points, classes = np.asarray(points)[:MAX_POINTS], np.asarray(classes)[:MAX_POINTS]
    colours = np.array([to_rgb(CLASS_COLOURS[index % len(CLASS_COLOURS)]) for index in range(len(labels))])
    # Class colours weighted by probability, on white: pale where the model is uncertain.
    certain = probabilities.max(axis=-1, keepdims=True)
    pixels = 1 - 0.45 * certain * (1 - probabilities @ colours)
    figure, axes = new_figure(5, 4.4, left=0.7, bottom=0.7, right=1.4, top=0.6)
    extent = (across[0], across[-1], up[0], up[-1])
    axes.imshow(np.clip(pixels, 0, 1), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    if len(labels) == 2:
        axes.contour(across, up, probabilities[..., 1], levels=[0.5], colors=[GREY], linewidths=1.2)
    right = 0
    for index, name in enumerate(labels):
        chosen = points[classes == index]
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        axes.plot(chosen[:, 0], chosen[:, 1], "o", color=colour, markersize=3.5, markeredgecolor="white", mew=0.5)
        write(axes, 1.03, 0.95 - 0.07 * index, f"● {shorten(name, 14)}", size=9, color=colour, transform=axes.transAxes)
        columns = np.abs(chosen[:, :1] - across).argmin(axis=1)
        rows = np.abs(chosen[:, 1:] - up).argmin(axis=1)
        right += int((probabilities[rows, columns].argmax(axis=-1) == index).sum())
    axes.set(xlim=extent[:2], ylim=extent[2:])
    graduate(axes, MaxNLocator(5), MaxNLocator(5))
    title(axes, f"Decision boundary: {right} of {len(points)} right")
    write(axes, 0.5, -0.1, "first feature", size=9, ha="center", va="top", transform=axes.transAxes)
    write(axes, -0.12, 0.5, "second feature", size=9, ha="center", rotation=90, transform=axes.transAxes)
    return figure


def predicted_against_true(truth: Sequence[float], predicted: Sequence[float]) -> Figure:
    """Each sample's prediction against its true number; a perfect model's points are on the diagonal.

    Args:
        truth: N numbers.
        predicted: N numbers.
    """
    x, y = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    sound = np.isfinite(x) & np.isfinite(y)
    x, y = x[sound], y[sound]
    if len(x) == 0:
        return message("Predicted against true", "no prediction is a finite number")
    rmse = float(np.sqrt(np.mean((x - y) ** 2)))
    variance = float(np.mean((x - x.mean()) ** 2))
    explained = f", R² {1 - rmse**2 / variance:.3f}" if variance > 0 else ""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.05 * (high - low) or 1.0
    figure, axes = new_figure(4.2, 4.2, left=0.9, bottom=0.7, right=0.3, top=0.6)
    axes.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, linewidth=1)
    axes.plot(x[:MAX_POINTS], y[:MAX_POINTS], "o", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0)
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    graduate(axes, MaxNLocator(5), MaxNLocator(5))
    title(axes, f"Predicted against true: RMSE {rmse:.4g}{explained}")
    write(axes, 0.5, -0.1, "true", size=9, ha="center", va="top", transform=axes.transAxes)
    write(axes, -0.18, 0.5, "predicted", size=9, ha="center", rotation=90, transform=axes.transAxes)
    return figure


def activation_functions(x: Any, values: dict[str, Any], derivatives: dict[str, Any]) -> Figure:
    """Each function with its derivative, the factor of gradients in the backward pass.

    Args:
        x: (N,) arguments.
        values: name -> (N,) values.
        derivatives: name -> (N,) derivatives.
    """
    names = list(values)
    figure = Figure(figsize=(2.6 * len(names), 2.8), dpi=DPI)
    for index, name in enumerate(names):
        axes = figure.add_axes(((index + 0.14) / len(names), 0.14, 0.78 / len(names), 0.62))
        axes.plot(x, values[name], color=BLUE, linewidth=1.6)
        axes.plot(x, derivatives[name], color=ORANGE, linewidth=1.6)
        graduate(axes, MaxNLocator(4), MaxNLocator(4))
        title(axes, name, pad=20)
        steepest = float(np.max(derivatives[name]))
        write(axes, 0.0, 1.06, "— value", size=8, color=BLUE, transform=axes.transAxes)
        text = f"— derivative, up to {steepest:.3g}"
        write(axes, 0.36, 1.06, text, size=8, color=ORANGE, transform=axes.transAxes)
    return figure


def gradient_by_distance(norms: dict[str, Sequence[float]]) -> Figure:
    """How a gradient vanishes or explodes back in time, on a logarithmic scale; triangles where it is 0 or infinite.

    Args:
        norms: name -> norms at 0, 1, ... steps back.
    """
    figure, axes = new_figure(6, 3.4, left=0.9, bottom=0.7, right=1.9, top=0.6)
    every = np.concatenate([np.asarray(values, dtype=float) for values in norms.values()] or [np.ones(1)])
    drawn = every[np.isfinite(every) & (every > 0)]
    least, most = (drawn.min(), drawn.max()) if len(drawn) else (0.1, 1.0)
    room = max(1.5, (most / least) ** 0.06)
    for index, (name, values) in enumerate(norms.items()):
        y = np.asarray(values, dtype=float)
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        steps, inside = np.arange(len(y)), np.isfinite(y) & (y > 0)
        axes.plot(steps, np.where(inside, y, np.nan), color=colour, linewidth=1.6)
        for outside, marker, rim in ((y == 0, "v", least / room), (np.isposinf(y), "^", most * room)):
            axes.plot(steps[outside], np.full(outside.sum(), rim), marker, color=colour, markersize=5, clip_on=False)
        write(axes, 1.03, 0.95 - 0.09 * index, f"— {shorten(name, 22)}", size=9, color=colour, transform=axes.transAxes)
    axes.set_yscale("log")
    axes.set_ylim(least / room, most * room)
    graduate(axes, MaxNLocator(6, integer=True), log_ticks(least, most))
    title(axes, "Gradient by distance in time")
    write(axes, 0.5, -0.12, "steps back in time", size=9, ha="center", va="top", transform=axes.transAxes)
    write(axes, -0.13, 0.5, "norm of the gradient", size=9, ha="center", rotation=90, transform=axes.transAxes)
    return figure


MAX_MAPS = 16  # per layer


def filters(kernels: Any) -> Figure:
    """The kernels of a convolution as images: negative weights in blue, positive ones in orange.

    Args:
        kernels: (K, h, w).
    """
    kernels = np.asarray(kernels, dtype=float)
    figure, axes = _mosaic([_coloured(kernels / max(np.abs(kernels).max(), 1e-12))], 0.55)
    title(axes, f"The {len(kernels)} filters of the first convolution")
    return figure


def feature_maps(image: Any, maps: dict[str, Any]) -> Figure:
    """An image, and below it the feature maps of each layer, each scaled to its own range.

    Args:
        image: (H, W).
        maps: layer -> (channels, h, w).
    """
    shown = {"the image": np.asarray(image)[None], **{name: np.asarray(layer) for name, layer in maps.items()}}
    rows = []
    for layer in shown.values():
        low, high = layer.min(axis=(1, 2), keepdims=True), layer.max(axis=(1, 2), keepdims=True)
        rows.append(np.repeat(((layer - low) / np.maximum(high - low, 1e-12))[:MAX_MAPS, ..., None], 3, axis=-1))
    figure, axes = _mosaic(rows, 0.55)
    title(axes, "An image, and its feature maps")
    for index, (name, layer) in enumerate(shown.items()):
        text = name if index == 0 else f"{name}: {min(len(layer), MAX_MAPS)} of {len(layer)} maps"
        write(axes, 0, TILE * (index + 1) - 1, text, size=7, color=GREY, va="bottom")
    return figure


TILE = 36  # pixels between tiles, of which caption and gap take 8


def _coloured(values: np.ndarray) -> np.ndarray:
    """(K, h, w) of -1 to 1 -> (K, h, w, 3), from blue over white to orange."""
    strength = np.abs(values)[..., None]
    return 1 - strength * (1 - np.where(values[..., None] < 0, to_rgb(BLUE), to_rgb(ORANGE)))


def _mosaic(rows: list[np.ndarray], inches: float) -> tuple[Figure, Any]:
    """One image of rows of tiles (h, w, 3), scaled to equal size, wrapped after MAX_MAPS."""
    rows = [row[start : start + MAX_MAPS] for row in rows for start in range(0, len(row), MAX_MAPS)]
    columns, side = max(len(row) for row in rows), TILE - 8
    mosaic = np.ones((TILE * len(rows), TILE * columns, 3))
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            height, width = (np.arange(side) * size // side for size in tile.shape[:2])
            top, left = down * TILE, across * TILE
            mosaic[top : top + side, left : left + side] = tile[height][:, width]
    size = max(4.0, columns * inches), len(rows) * inches * max(1.0, 4.0 / (columns * inches))
    figure, axes = new_figure(*size, left=0.2, bottom=0.1, right=0.2, top=0.55)
    axes.imshow(np.clip(mosaic, 0, 1), interpolation="nearest", aspect="auto")
    axes.axis("off")
    return figure, axes
