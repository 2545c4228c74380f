"""A rectangle of a figure with its own coordinates: the subset of matplotlib's Axes that most pictures need.

Creating and drawing an empty Axes takes 10 ms, and resampling an image 15 ms: several times the rest of a small trial's
picture. A Panel only consists of transforms; lines, images and texts are added directly to the figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist, allow_rasterization
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox, BboxTransformFrom, BboxTransformTo, Transform, TransformedBbox
from matplotlib.transforms import blended_transform_factory as blended


class Panel:
    """A rectangle of a figure.

    Args:
        box: left, bottom, width and height, as fractions of the figure's.
        across: values at the left and at the right edge.
        up: values at the lower and at the upper edge.

    Attributes:
        transAxes, transData: transforms from panel coordinates, 0 to 1, and from values, to pixels; named as in Axes,
            so that `figure.write` and `figure.title` accept both.
    """

    def __init__(
        self,
        figure: Figure,
        box: Sequence[float],
        across: tuple[float, float] = (0.0, 1.0),
        up: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.figure, self.across, self.up = figure, across, up
        left, bottom, width, height = box
        place = TransformedBbox(Bbox.from_bounds(left, bottom, width, height), figure.transFigure)
        self.transAxes: Transform = BboxTransformTo(place)
        values = Bbox([[across[0], up[0]], [across[1], up[1]]])
        self.transData: Transform = BboxTransformFrom(values) + self.transAxes

    def get_figure(self) -> Figure:
        return self.figure

    def get_xaxis_transform(self) -> Transform:
        """x in values, y in panel coordinates."""
        return blended(self.transData, self.transAxes)

    def get_yaxis_transform(self) -> Transform:
        """x in panel coordinates, y in values."""
        return blended(self.transAxes, self.transData)

    def get_xlim(self) -> tuple[float, float]:
        return self.across

    def get_ylim(self) -> tuple[float, float]:
        return self.up

    def image(self, pixels: Any) -> None:
        """Fills the panel with pixels, uint8 (H, W, 3), first row at the top, without interpolation."""
        image = Pixels(np.asarray(pixels, dtype=np.uint8), self.transAxes)
        image.set_figure(self.figure)
        self.figure.artists.append(image)


def add_line(figure: Figure, x: Any, y: Any, transform: Transform, **style: Any) -> None:
    """A line through points, with gaps at NaN."""
    line = Line2D(x, y, transform=transform, **style)
    line.set_figure(figure)
    figure.lines.append(line)


class Pixels(Artist):
    """An image scaled by nearest neighbour.

    Args:
        pixels: uint8 (H, W, 3).
        place: maps (0, 0) and (1, 1) to two opposite corners.
    """

    def __init__(self, pixels: np.ndarray, place: Transform) -> None:
        super().__init__()
        self.pixels, self._place = pixels, place

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        (left, bottom), (right, top) = np.round(self._place.transform([(0, 0), (1, 1)])).astype(int)
        height, width = self.pixels.shape[:2]
        rows = np.arange(top - bottom)[::-1] * height // (top - bottom)  # a renderer starts with the bottom row
        columns = np.arange(right - left) * width // (right - left)
        whole = np.dstack([self.pixels, np.full((height, width, 1), 255, dtype=np.uint8)]).view(np.uint32)[..., 0]
        shown = whole.take(columns, 1).take(rows, 0)[..., None].view(np.uint8)  # pixels as single numbers: much faster
        context = renderer.new_gc()
        renderer.draw_image(context, left, bottom, shown)
        context.restore()
