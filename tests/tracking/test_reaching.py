"""Epochs and seconds to reach a level, from events."""

from __future__ import annotations

import math

import pytest

from studies.protocol.events import Event, Metrics, Started
from studies.tracking.reaching import Reached, reached


def curve(*values: float, began: float = 100.0, epoch: int = 0) -> list[Event]:
    """One value a second after each epoch, the first a second after the start."""
    events: list[Event] = [Started(1, "here", "cpu", {}, time=began)]
    for index, value in enumerate(values):
        events.append(Metrics(index, epoch + index, {"val/x": value}, time=began + index + 1))
    return events


@pytest.mark.parametrize(
    ("values", "level", "rising", "epochs"),
    [
        ((0.5, 0.8, 0.9), 0.8, True, 2),
        ((0.5, 0.85, 0.9), 0.8, True, 2),
        ((2.0, 1.0, 0.4), 0.5, False, 3),
        ((0.5, 0.6), 0.8, True, None),
        ((1.0, 0.9), 0.8, True, 1),
        ((math.nan, 0.5, 0.9), 0.8, True, 3),
        ((), 0.8, True, None),
    ],
)
def test_the_first_epoch_at_the_level(
    values: tuple[float, ...], level: float, rising: bool, epochs: int | None
) -> None:
    assert reached(curve(*values), "val/x", level, rising) == (
        None if epochs is None else Reached(epochs, float(epochs))
    )


def test_the_pause_between_two_starts_does_not_count() -> None:
    events = [*curve(0.1, 0.2), *curve(0.3, 0.9, began=1000.0, epoch=2)]
    assert reached(events, "val/x", 0.8, True) == Reached(4, 4.0)


def test_another_metric_is_not_looked_at() -> None:
    assert reached(curve(0.1, 0.9), "val/y", 0.5, True) is None
