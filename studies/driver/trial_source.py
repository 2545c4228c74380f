"""What the loop runs: the trials of `train`, `study` or `extend`."""

from __future__ import annotations

from typing import Protocol

from studies.protocol.events import Event, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class TrialSource(Protocol):
    """Supplies trials and receives their results: a single run, or a search.

    By default it prunes nothing and buffers nothing.
    """

    def next(self) -> TrialSpec | None:
        """The next trial to run, or None if none is left."""

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending | None:
        """A trial has ended; returns its ending as a whole, or None if more of it follows, with another seed."""

    def report(self, spec: TrialSpec, count: int, value: float, further: dict[str, float]) -> bool:
        """A trial's count-th value of the metric, from 1, and its further objectives; returns whether to prune it."""
        return False

    def write(self) -> None:
        """Writes buffered results, if any; called every second and once no trial is running."""
        return None

    def may_resume(self, spec: TrialSpec, ending: Event) -> bool:
        """Whether a trial that ended like this may resume: it was interrupted, or it is to be extended."""
        return spec.extends or (isinstance(ending, Stopped) and ending.why == "interrupted")

    def unrecorded(self) -> list[tuple[TrialSpec, str]]:
        """Trials that a previous driver closed but did not log, with their final states."""
        return []
