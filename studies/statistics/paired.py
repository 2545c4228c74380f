"""Whether one configuration is better than another, from values of both that are paired by seed.

The decision is a two-sided paired t-test (scipy.stats.ttest_rel) at 5%, divided by the number of comparisons
(Bonferroni), and the bootstrap interval of the mean difference must not contain zero. The bootstrap alone would be too
optimistic: with ten seeds its 95% interval misses the truth in about 8% of cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ERROR = 0.05  # probability of any false claim among the comparisons
POWER = 0.9  # with which a difference is to be found, when seeds are counted
MOST_SEEDS = 1000  # that are ever proposed
FEW = 5  # seeds are proposed up to so many times as many as there were; beyond it is "not distinguishable"
RESAMPLES = 9999


@dataclass(frozen=True)
class Comparison:
    """Configuration a against b.

    Args:
        differences: for each shared seed by how much a is better than b (positive: better), at least two.
        comparisons: how many are made, for which this one is corrected.
    """

    differences: tuple[float, ...]
    comparisons: int = 1

    @property
    def difference(self) -> float:
        return math.fsum(self.differences) / len(self.differences)

    @cached_property
    def p_value(self) -> float:
        """Of the two-sided paired t-test, multiplied by the number of comparisons, at most 1."""
        if len(set(self.differences)) == 1:  # no spread: decided by the sign
            return 1.0 if self.difference == 0 else 0.0
        from scipy import stats

        return min(1.0, float(stats.ttest_1samp(self.differences, 0.0).pvalue) * self.comparisons)

    @cached_property
    def _bootstrap(self) -> tuple[float, float, float]:
        """Interval of the mean difference (BCa; Efron 1987) and the share of resampled means above zero."""
        if len(set(self.differences)) == 1:
            value = self.differences[0]
            return value, value, 0.5 if value == 0 else float(value > 0)
        import numpy as np
        from scipy import stats

        found = stats.bootstrap(
            (np.asarray(self.differences),),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=1 - ERROR / self.comparisons,
            method="BCa",
            rng=np.random.default_rng(0),  # the same answer each time
        )
        means = found.bootstrap_distribution
        better = float(np.mean(means > 0) + np.mean(means == 0) / 2)
        return float(found.confidence_interval.low), float(found.confidence_interval.high), better

    @property
    def low(self) -> float:
        return self._bootstrap[0]

    @property
    def high(self) -> float:
        return self._bootstrap[1]

    @property
    def probability_better(self) -> float:
        """P(the mean of a is better than that of b), by the bootstrap."""
        return self._bootstrap[2]

    @cached_property
    def verdict(self) -> str:
        """ "better" or "worse" (a than b), "more seeds needed", or "not distinguishable"."""
        if self.p_value <= ERROR and not self.low <= 0 <= self.high:
            return "better" if self.difference > 0 else "worse"
        needed = self.seeds_needed
        few = needed is not None and needed <= FEW * len(self.differences)
        return "more seeds needed" if few else "not distinguishable"

    @cached_property
    def seeds_needed(self) -> int | None:
        """Seeds that would show the observed difference with a power of 90%; None if more than 1,000."""
        from scipy import stats

        spread = float(stats.tstd(self.differences)) if len(set(self.differences)) > 1 else 0.0
        if spread == 0:
            return None
        return seeds_needed(abs(self.difference) / spread, self.comparisons)

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "probability_better": self.probability_better,
            "p_value": self.p_value,
            "seeds": len(self.differences),
            "comparisons": self.comparisons,
            "seeds_needed": self.seeds_needed,
        }


def compare(a: Sequence[float], b: Sequence[float], direction: str, comparisons: int = 1) -> Comparison:
    """Compares values that are paired by seed.

    Args:
        direction: "maximize" or "minimize": which values are better.

    Raises:
        ValueError: there are fewer than two pairs, or not as many of both.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a comparison needs at least two pairs of values, but got {len(a)} and {len(b)}")
    sign = 1.0 if direction == "maximize" else -1.0
    return Comparison(tuple(sign * (x - y) for x, y in zip(a, b, strict=True)), comparisons)


def power(effect: float, seeds: int, comparisons: int = 1) -> float:
    """The probability that the paired t-test finds a difference, by the noncentral t distribution.

    Args:
        effect: the mean of the paired differences in units of their standard deviation, at least 0.
    """
    from scipy import stats

    freedom = seeds - 1
    critical = stats.t.isf(ERROR / comparisons / 2, freedom)
    return float(stats.nct.sf(critical, freedom, effect * math.sqrt(seeds)))


def seeds_needed(effect: float, comparisons: int = 1) -> int | None:
    """The fewest seeds that find an effect with a power of 90%; None if more than 1,000. See `power`."""
    low, high = 2, MOST_SEEDS
    if effect <= 0 or power(effect, high, comparisons) < POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, comparisons) >= POWER else (middle + 1, high)
    return low
