"""--level of `harness compare`: epochs and seconds of training until a metric reached a value."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studies.cli.bad_input import BadInput
from studies.common.state_folder import StateFolder
from studies.common.suggestions import did_you_mean
from studies.protocol.event_log import NAME as EVENTS
from studies.protocol.event_log import EventReader
from studies.statistics.intervals import summarize
from studies.tracking.reaching import Reached, reached
from studies.tracking.run_info import PARENTS

if TYPE_CHECKING:
    from studies.tracking.run_info import RunInfo


@dataclass(frozen=True)
class Level:
    """A metric that is to be at least, or at most, a value."""

    metric: str
    value: float
    rising: bool

    def __str__(self) -> str:
        return f"{self.metric}{'>=' if self.rising else '<='}{self.value:g}"


def parse_level(text: str) -> Level:
    """The level of --level.

    Raises:
        BadInput: it is neither METRIC>=VALUE nor METRIC<=VALUE.
    """
    match = re.fullmatch(r"\s*(\S.*?)\s*([<>])=\s*(\S+)\s*", text)
    with contextlib.suppress(ValueError):
        if match is not None and math.isfinite(float(match[3])):
            return Level(match[1], float(match[3]), match[2] == ">")
    raise BadInput(f"level must be METRIC>=VALUE or METRIC<=VALUE, such as 'val/accuracy>=0.98', but got level={text}")


def times_to(level: Level, run: RunInfo, tracking: Any) -> list[Reached | None]:
    """When the run, or each run below it, reached the level.

    Raises:
        BadInput: no run has such a metric.
    """
    trained = tracking.children(run.run_id) if run.kind in PARENTS else [run]
    known = sorted({name for one in trained for name in one.metrics})
    if level.metric not in known:
        raise BadInput(f"run {run.run_id[:8]} has no metric {level.metric}{did_you_mean(level.metric, known)}")
    folder_of = StateFolder.find().trial_folder
    return [
        reached(EventReader(folder_of(one.run_id) / EVENTS).read(), level.metric, level.value, level.rising)
        for one in trained
    ]


def level_rows(level: Level | None, times: list[list[Reached | None]]) -> Iterator[list[str]]:
    if level is None:
        return
    yield []
    for unit in ("epochs", "seconds"):
        yield [f"{unit} to {level}", *(_time(unit, found) for found in times)]


def _time(unit: str, found: list[Reached | None]) -> str:
    """A run's epochs or seconds to the level; of several, their mean, and how many reached it if not all did."""
    numbers = [float(getattr(one, unit)) for one in found if one is not None]
    if not numbers:
        return "never"
    summary = summarize(numbers)
    interval = f" ± {summary.half_width:.2g}" if summary.low is not None else ""
    some = f" ({len(numbers)} of {len(found)})" if len(numbers) < len(found) else ""
    return f"{summary.mean:.4g}{interval}{some}"
