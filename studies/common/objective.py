"""Compares metric values and orders trials."""

from __future__ import annotations


def better(value: float, than: float | None, direction: str) -> bool:
    """Whether a metric value is better; any finite value beats None, and NaN beats nothing."""
    if value != value:
        return False
    return than is None or (value > than if direction == "maximize" else value < than)


def rank_key(value: float, number: int, direction: str) -> tuple[bool, float, int]:
    """Sort key from best to worst: NaN last, ties by trial number."""
    return value != value, -value if direction == "maximize" else value, number
