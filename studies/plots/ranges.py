"""The range of values that a picture draws, and which values can be drawn at all. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LARGEST = 1e100  # largest drawable value: differences of larger ones may be infinite


def floats(values: Sequence[float | None]) -> np.ndarray:
    """Values as an array, with NaN for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def can_be_drawn(values: np.ndarray) -> np.ndarray:
    """Which values can be drawn: not NaN, infinite or nearly infinite."""
    return np.abs(values) < LARGEST


def limits(values: np.ndarray, direction: str | None) -> tuple[float, float]:
    """The range to draw: best value to worst non-outlier, since one diverged trial would flatten all others.

    Outliers are worse than the median by over 8 median absolute deviations (about 5 standard deviations).
    """
    values = values[can_be_drawn(values)]
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    median = np.median(values)
    reach = 8 * np.median(np.abs(values - median))
    if len(values) >= 4 and reach > 0:
        if direction == "maximize":
            low = float(values[values >= median - reach].min())
        elif direction == "minimize":
            high = float(values[values <= median + reach].max())
    if high == low:
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low, high
