"""Compares metric values and orders trials, by one objective or by several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PARAMETERS = "parameters"  # an objective that needs no logging: the number of trainable parameters
VALUE = "value"  # metric that a function's result is logged as, if the experiment names none


def better(value: float, than: float | None, direction: str) -> bool:
    """Whether a metric value is better; any finite value beats None, and NaN beats nothing."""
    if value != value:
        return False
    return than is None or (value > than if direction == "maximize" else value < than)


def rank_key(value: float, number: int, direction: str) -> tuple[bool, float, int]:
    """Sort key from best to worst: NaN last, ties by trial number."""
    return value != value, -value if direction == "maximize" else value, number


def dominates(one: Sequence[float], other: Sequence[float], objectives: Mapping[str, str]) -> bool:
    """Whether a point is at least as good in every objective and better in one.

    Args:
        one, other: a value for each objective, in their order.
        objectives: metric -> maximize or minimize.
    """
    return _dominates(_losses(one, objectives), _losses(other, objectives))


def pareto_front(points: Sequence[Sequence[float]], objectives: Mapping[str, str]) -> list[int]:
    """Indices of the points that no other dominates, by the first objective; with one objective, the best."""
    losses = [_losses(point, objectives) for point in points]
    front: list[int] = []
    different: list[tuple[float, ...]] = []  # the points of the front, equal ones once: thousands may be equal
    for index in sorted(range(len(points)), key=lambda index: (losses[index], index)):
        point = losses[index]
        if different and point == different[-1]:
            front.append(index)
        elif not any(_dominates(other, point) for other in different):  # a later one cannot dominate
            front.append(index)
            different.append(point)
    return front


def best_first(points: Sequence[Sequence[float]], objectives: Mapping[str, str]) -> list[int]:
    """Indices from best to worst: the Pareto front, then the others.

    Both are ordered by the first objective, ties by the next ones, then by index.
    """
    front = pareto_front(points, objectives)
    losses = [_losses(point, objectives) for point in points]
    rest = sorted(set(range(len(points))) - set(front), key=lambda index: (losses[index], index))
    return [*front, *rest]


def _losses(point: Sequence[float], objectives: Mapping[str, str]) -> tuple[float, ...]:
    """A point as values to minimize; NaN is worst."""
    signed = [-value if way == "maximize" else value for value, way in zip(point, objectives.values(), strict=True)]
    return tuple(float("inf") if value != value else value for value in signed)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
