"""The mean of a metric over seeds, with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEVEL = 0.95  # of confidence intervals


@dataclass(frozen=True)
class Summary:
    """A metric over seeds.

    Attributes:
        seeds: number of values.
        mean: their mean.
        std: their standard deviation (of a sample, n - 1), or None of a single value.
        low, high: the 95% confidence interval of the mean by Student's t, or None of a single value.
    """

    seeds: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float:
        """Half the width of the interval; infinite if there is none."""
        return math.inf if self.low is None or self.high is None else (self.high - self.low) / 2

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(values: Sequence[float], level: float = LEVEL) -> Summary:
    """The mean of values, one a seed, with Student's t interval (scipy.stats.ttest_1samp).

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"a mean needs finite values, but got {list(values)}")
    from scipy import stats

    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Summary(1, mean)
    if len(set(values)) == 1:  # scipy warns of values that are all the same
        return Summary(len(values), mean, 0.0, mean, mean)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    return Summary(len(values), mean, float(stats.tstd(values)), float(interval.low), float(interval.high))


def curve_with_band(curves: Sequence[tuple[Sequence[int], Sequence[float]]]) -> dict[str, list[float]]:
    """The mean of curves with its 95% interval (Student's t), at the steps that all of them have.

    Args:
        curves: for each seed its steps and values; of several values at a step, the last counts.

    Returns:
        step, mean, low and high, of equal lengths; steps at which a value is not finite are left out.
    """
    import numpy as np
    from scipy import stats

    maps = [dict(zip(steps, values, strict=True)) for steps, values in curves]
    common = sorted(set.intersection(*map(set, maps))) if maps else []
    kept = [step for step in common if all(math.isfinite(one[step]) for one in maps)]
    table = np.array([[one[step] for step in kept] for one in maps], dtype=float).reshape(len(maps), len(kept))
    mean = table.mean(axis=0) if len(maps) else table
    half = np.zeros_like(mean)
    if len(maps) > 1:
        half = table.std(axis=0, ddof=1) / math.sqrt(len(maps)) * stats.t.ppf((1 + LEVEL) / 2, len(maps) - 1)
    return {
        "step": [float(step) for step in kept],
        "mean": mean.tolist(),
        "low": (mean - half).tolist(),
        "high": (mean + half).tolist(),
    }
