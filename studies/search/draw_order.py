"""The order in which a study's trials were opened and ended, and what drew them.

What a sampler that learns draws depends on which trials had ended and which were running when it was asked, and with
several workers that cannot be seen from the trials' numbers. So each trial keeps two moments: how many such events the
study had seen when it was opened, and when it ended. They are stored with the event that they belong to, and the next
moment follows from the trials' states alone, so a driver that dies between two writes leaves at most a number that its
successor writes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, TrialState

OPENED = "harness.opened"  # trial's system attribute: the moment at which it was opened and drawn
ENDED = "harness.ended"  # trial's system attribute: the moment at which its result was told
DRAWN_LATER = "harness.drawn_later"  # trial's system attribute: parameters that another driver drew, after a crash
DRAWN_BY = "harness.drawn_by"  # study attribute: from which moment on which space, sampler, pruner and prior drew


def next_moment(trials: Sequence[FrozenTrial]) -> int:
    """The number of trials that were opened plus that of trials that have ended."""
    opened = sum(trial.state != TrialState.WAITING for trial in trials)
    return opened + sum(trial.state.is_finished() for trial in trials)


class Event(NamedTuple):
    """A trial was opened, or has ended."""

    moment: int
    ended: bool
    trial: FrozenTrial


def events_of(trials: Sequence[FrozenTrial]) -> tuple[list[Event], list[FrozenTrial]]:
    """What happened to a study's trials, in order; and the trials that an older version opened, without moments.

    Raises:
        ValueError: somebody has changed what is stored.
    """
    events, opened, unknown = [], [], []
    for trial in trials:
        if trial.state == TrialState.WAITING:
            continue
        moment = _moment(trial, OPENED)
        if moment is None:
            unknown.append(trial)
        else:
            opened.append(moment)
            events.append(Event(moment, False, trial))
        if trial.state.is_finished() and (end := _moment(trial, ENDED)) is not None:
            events.append(Event(end, True, trial))
    # A storage without transactions: a driver died after a trial was created and before its moment was stored.
    moments = {event.moment for event in events}
    if len(moments) != len(events):
        raise ValueError("two events of its trials have the same moment")
    after = next_moment(trials)
    free = [moment for moment in range(min(moments, default=after), after) if moment not in moments]
    if len(free) > len(unknown):
        raise ValueError("moments of its trials are missing")
    older = unknown[: len(unknown) - len(free)]
    events += [Event(moment, False, trial) for moment, trial in zip(free, unknown[len(older) :], strict=True)]
    return sorted(events, key=lambda event: event.moment), older


def _moment(trial: FrozenTrial, name: str) -> int | None:
    value: Any = trial.system_attrs.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{name} of trial {trial.number} is {str(value)[:80]}")
    return value
