"""Interleaved comparison of two implementations: A B B A, so that drifts of the machine affect both."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Comparison:
    """Measurements of ours and the rival's, one figure per repetition."""

    ours: list[float]
    rival: list[float]

    @property
    def ratio(self) -> float:
        """Ratio of the medians, ours to the rival's."""
        return statistics.median(self.ours) / statistics.median(self.rival)

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest ratio of a pair."""
        ratios = [ours / rival for ours, rival in zip(self.ours, self.rival, strict=True)]
        return min(ratios), max(ratios)

    def turned(self, work: float) -> Comparison:
        """Converts seconds to speeds, for this amount of work."""
        return Comparison([work / seconds for seconds in self.ours], [work / seconds for seconds in self.rival])


def compare(ours: Callable[[], float], rival: Callable[[], float], pairs: int) -> Comparison:
    """Measures both, in pairs whose order alternates."""
    found = Comparison([], [])
    for pair in range(pairs):
        for is_ours in (True, False) if pair % 2 == 0 else (False, True):
            figure = ours() if is_ours else rival()
            (found.ours if is_ours else found.rival).append(figure)
            print(f"  pair {pair + 1} {'ours ' if is_ours else 'rival'} {figure:.4g}", file=sys.stderr, flush=True)
    return found
