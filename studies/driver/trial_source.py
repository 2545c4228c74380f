"""What the loop runs: the trials of `train`, `study` or `extend`."""

from __future__ import annotations

from typing import Protocol

from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class TrialSource(Protocol):
    """Supplies trials and receives their results: a single run, or a search.

    By default it prunes nothing and buffers nothing.
    """

    def next(self) -> TrialSpec | None:
        """The next trial to run, or None if none is left."""

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        """A trial has ended."""

    def report(self, spec: TrialSpec, count: int, value: float) -> bool:
        """A trial's count-th value of the metric, from 1; returns whether to prune it."""
        return False

    def write(self) -> None:
        """Writes buffered results, if any; called every second and once no trial is running."""
        return None

    def unrecorded(self) -> list[tuple[TrialSpec, str]]:
        """Trials that a previous driver closed but did not log, with their final states."""
        return []
