"""An alarm where the best value lies at the edge of its range: the best one may lie outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

from studies.config.search_space import Choice, Range
from studies.reports.values import Parameter, is_number, number_text

NEAR = 0.05  # of a range's length: at its edge
OUTER = 0.25  # of a range's length: near it
TOP = 10  # trials that are asked whether they agree


def edge_alarms(parameters: Sequence[Parameter], order: Sequence[int]) -> list[str]:
    """A sentence for each parameter whose best value lies at an end of its range.

    A lower end of 0 is no edge: there is usually nothing beyond it.

    Args:
        order: positions of the complete trials in each parameter's values, best first.
    """
    if not order:
        return []
    return [line for parameter in parameters if (line := _alarm(parameter, order))]


def _alarm(parameter: Parameter, order: Sequence[int]) -> str | None:
    best = parameter.values[order[0]]
    if not is_number(best):
        return None
    places = [_place(parameter, parameter.values[index]) for index in order[:TOP]]
    first = places[0]
    if first is None or NEAR < first < 1 - NEAR:
        return None
    is_upper = first > 0.5
    ends = _ends(parameter)
    if ends is None or (not is_upper and ends[0] == 0):
        return None
    near = sum(place is not None and (place >= 1 - OUTER if is_upper else place <= OUTER) for place in places)
    side = "upper" if is_upper else "lower"
    what = "range" if isinstance(parameter.entry, Range) else "list"
    others = f", and {near} of the {len(places)} best are near it" if len(places) > 2 else ""
    fix = "widen it" if what == "range" else "add values beyond it"
    return (
        f"The best {parameter.short}, {number_text(best)}, lies at the {side} edge of its {what} "
        f"({number_text(ends[0])} to {number_text(ends[1])}){others}: {fix}."
    )


def _ends(parameter: Parameter) -> tuple[float, float] | None:
    """The smallest and largest value that the search may draw; None without an order, or with fewer than three."""
    entry = parameter.entry
    if isinstance(entry, Range):
        return entry.low, entry.high
    if isinstance(entry, Choice) and len(entry.values) > 2 and all(is_number(value) for value in entry.values):
        return min(entry.values), max(entry.values)
    return None


def _place(parameter: Parameter, value: object) -> float | None:
    """Where a value lies between the ends of its range, 0 to 1; values of a list by their rank."""
    ends = _ends(parameter)
    if ends is None or not isinstance(value, int | float):
        return None
    if isinstance(parameter.entry, Choice):
        ranked = sorted(parameter.entry.values)
        return ranked.index(value) / (len(ranked) - 1) if value in ranked else None
    low, high = ends
    if parameter.log and low > 0 and value > 0:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
