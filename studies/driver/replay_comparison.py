"""Where two trainings of the same trial part, by their event logs. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from studies.protocol.events import DataSet, Event, Failed, Fingerprint, Finished, Metrics, Started

DIGITS = 4  # of a parameter's hash
UNKNOWN = "----"  # a parameter without one


@dataclass
class Parting:
    """The first place where two trainings differ.

    Attributes:
        epoch: from 0.
        step: of the logged value, or the optimizer steps done at the epoch's end; None if it is no step's.
        what: metric, weights, samples, ending, or missing: a value that only one of them logged.
        name: of the metric, or of the first parameter.
        then, now: the values of a metric.
    """

    epoch: int | None
    step: int | None
    what: str
    name: str
    then: float | None = None
    now: float | None = None

    @property
    def by(self) -> float | None:
        if self.then is None or self.now is None:
            return None
        return abs(self.now - self.then)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "by": self.by}


@dataclass
class Comparison:
    """What was compared, and the first place where it differs, None if nowhere."""

    epochs: int  # with fingerprints
    samples: int  # of these, with the order of samples
    values: int
    parting: Parting | None


def compare(then: Sequence[Event], now: Sequence[Event]) -> Comparison:
    """Compares a run with its replay, up to where the run ended.

    Only what the run has is compared: a run that was interrupted ends earlier than its replay. Values that a resumed
    run logged again count once.
    """
    old, new = _fingerprints(then), _fingerprints(now)
    names = _names(now) or _names(then)
    found: list[tuple[tuple[int, int, int], Parting]] = []
    known = 0
    for (epoch, step), one in old.items():
        other = new.get((epoch, step))
        place = (epoch, step, 2)
        if other is None:
            found.append((place, Parting(epoch, step, "missing", "the end of the epoch")))
            continue
        known += bool(one.samples and other.samples)
        if one.samples and other.samples and one.samples != other.samples:
            found.append(((epoch, -1, 0), Parting(epoch, None, "samples", "the order of samples")))
        if one.weights != other.weights:
            found.append((place, Parting(epoch, step, "weights", _first_part(one.parts, other.parts, names))))
    values, others = _values(then), _values(now)
    for key, (epoch, value) in values.items():
        _, step, name, _ = key
        if key not in others:
            found.append(((epoch, step, 1), Parting(epoch, step, "missing", name, value, None)))
        elif not _same(value, others[key][1]):
            found.append(((epoch, step, 1), Parting(epoch, step, "metric", name, value, others[key][1])))
    found += [((2**62, 0, 3), parting) for parting in _endings(then, now)]
    first = min(found, key=lambda item: item[0], default=None)
    return Comparison(len(old), known, len(values), first[1] if first else None)


def data_differences(then: Sequence[Event], now: Sequence[Event]) -> list[str]:
    """The splits whose data sets differ."""
    before = {event.split: event for event in then if isinstance(event, DataSet)}
    after = {event.split: event for event in now if isinstance(event, DataSet)}
    found = []
    for split in before.keys() & after.keys():
        one, other = before[split], after[split]
        if one.digest != other.digest:
            sizes = f": {one.samples} samples, now {other.samples}" if one.samples != other.samples else ""
            found.append(f"the {split} data differ{sizes} ({one.digest}, now {other.digest})")
    return sorted(found)


def setting_differences(then: Sequence[Event], now: Sequence[Event]) -> list[str]:
    """What differs in the surroundings of the two: threads, device, CPU, switches of PyTorch."""
    one, other = (next((event for event in events if isinstance(event, Started)), None) for events in (then, now))
    if one is None or other is None:
        return []
    if not one.settings:  # of an older version
        return [] if one.device == other.device else [f"device: {one.device}, now {other.device}"]
    return [
        f"{name}: {value}, now {other.settings.get(name, 'none')}"
        for name, value in one.settings.items()
        if other.settings.get(name) != value
    ]


def last_place(events: Sequence[Event]) -> int:
    """The optimizer steps that a run had done when its log ended."""
    steps = [event.progress for event in events if isinstance(event, Metrics)]
    return max(steps + [event.step for event in events if isinstance(event, Fingerprint)], default=0)


def _fingerprints(events: Sequence[Event]) -> dict[tuple[int, int], Fingerprint]:
    return {(event.epoch, event.step): event for event in events if isinstance(event, Fingerprint)}


def _names(events: Sequence[Event]) -> list[str]:
    return next((event.names.split("\n") for event in events if isinstance(event, Fingerprint) and event.names), [])


def _first_part(one: str, other: str, names: Sequence[str]) -> str:
    """The first parameter whose hashes differ."""
    if len(one) != len(other):
        return "the number of parameters"
    for number, start in enumerate(range(0, len(one), DIGITS)):
        pair = one[start : start + DIGITS], other[start : start + DIGITS]
        if pair[0] != pair[1] and UNKNOWN not in pair:
            return names[number] if number < len(names) else f"parameter {number}"
    return "the weights"


def _values(events: Sequence[Event]) -> dict[tuple[int, int, str, int], tuple[int, float]]:
    """(position, step, metric, how many times before at that position) -> (epoch, value)."""
    found: dict[tuple[int, int, str, int], tuple[int, float]] = {}
    for events_of_process in _processes(events):
        times: dict[tuple[int, int, str], int] = {}
        for event in events_of_process:
            if isinstance(event, Metrics):
                for name, value in event.values.items():
                    key = (event.position, event.step, name)
                    found[(*key, times.get(key, 0))] = (event.epoch, value)
                    times[key] = times.get(key, 0) + 1
    return found


def _processes(events: Sequence[Event]) -> list[list[Event]]:
    parts: list[list[Event]] = [[]]
    for event in events:
        if isinstance(event, Started):
            parts.append([])
        parts[-1].append(event)
    return parts


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _endings(then: Sequence[Event], now: Sequence[Event]) -> list[Parting]:
    """What differs in how the two ended: a failure, or a value such as a test result."""
    one, other = (next((event for event in reversed(events) if _ends(event)), None) for events in (then, now))
    if isinstance(other, Failed) and not isinstance(one, Failed):
        return [Parting(None, None, "ending", f"the replay failed: {other.error}")]
    if isinstance(one, Finished) and isinstance(other, Finished):
        return [
            Parting(None, None, "metric", name, value, other.summary[name])
            for name, value in one.summary.items()
            if name != "fit_seconds" and name in other.summary and not _same(value, other.summary[name])
        ]
    return []


def _ends(event: Event) -> bool:
    return isinstance(event, Finished | Failed)
