"""Which of two values of a metric is the better one, and the order of trials."""

from __future__ import annotations


def better(value: float, than: float | None, direction: str) -> bool:
    """Whether a metric's value beats another; anything finite beats None, and NaN beats nothing."""
    if value != value:
        return False
    return than is None or (value > than if direction == "maximize" else value < than)


def rank_key(value: float, number: int, direction: str) -> tuple[bool, float, int]:
    """Sorts trials from the best to the worst: NaN last, and of equal values the earlier trial first."""
    return value != value, -value if direction == "maximize" else value, number
