"""How many epochs and seconds of training a run took to reach a level of a metric, from its log."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from studies.protocol.events import Event, Metrics, Resources, Started


@dataclass(frozen=True)
class Reached:
    """Attributes: `epochs` begun, at least 1, and `seconds` of training, without pauses between interrupted starts."""

    epochs: int
    seconds: float


def reached(events: Iterable[Event], metric: str, level: float, rising: bool) -> Reached | None:
    """When a metric was first at least (rising) or at most (falling) a level; None if it never was."""
    earlier, began, newest = 0.0, math.nan, math.nan
    for event in events:
        if isinstance(event, Started):
            earlier += 0.0 if math.isnan(began) else max(0.0, newest - began)
            began = newest = event.time
        elif not isinstance(event, Resources):  # sent by a thread that keeps running when training hangs
            newest = event.time
        value = event.values.get(metric, math.nan) if isinstance(event, Metrics) else math.nan
        if isinstance(event, Metrics) and (value >= level if rising else value <= level):  # never of NaN
            return Reached(event.epoch + 1, earlier + (0.0 if math.isnan(began) else event.time - began))
    return None
