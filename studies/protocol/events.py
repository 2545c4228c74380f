"""A trial's events, one line of JSON each. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from studies.common.text import clean_json

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Event:
    """An event of a trial, with a Unix timestamp in seconds. One JSON line in events.jsonl."""

    kind: ClassVar[str] = "event"
    time: float = field(default_factory=time.time, kw_only=True)

    def to_json(self) -> str:
        return clean_json({"kind": self.kind, **vars(self)})


@dataclass(frozen=True)
class Started(Event):
    """The trial process has started. `epochs` and `steps` are the planned totals, None where unlimited.

    `settings` are what else its numbers may depend on: threads, CPU, libraries of a GPU, switches of PyTorch.
    """

    kind = "started"
    pid: int
    host: str
    device: str
    versions: dict[str, str]
    epochs: int | None = None
    steps: int | None = None
    resumed_step: int | None = None
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics(Event):
    """Values logged by Lightning or user code.

    Attributes:
        step: the logged step. Lightning counts training steps from 0.
        epoch: the current epoch, from 0.
        values: name -> value; includes "epoch" if Lightning logs it.
        done: optimizer steps done at that time; None in logs of earlier versions, in which `step` had this meaning
            and `values` had no epoch.
        batch: training batches begun at that time. Unlike `step`, it never decreases while a trial runs.
    """

    kind = "metrics"
    step: int
    epoch: int
    values: dict[str, float]
    done: int | None = None
    batch: int | None = None

    @property
    def progress(self) -> int:
        """Optimizer steps done."""
        return self.step if self.done is None else self.done

    @property
    def position(self) -> int:
        """The trial's position, by which repeated values of a resumed trial are recognised."""
        return self.step if self.batch is None else self.batch


@dataclass(frozen=True)
class Params(Event):
    """Parameters logged by user code, as text; the experiment's own are in the TrialSpec."""

    kind = "params"
    values: dict[str, str]


@dataclass(frozen=True)
class Tags(Event):
    """Tags that user code set on its run."""

    kind = "tags"
    values: dict[str, str]


@dataclass(frozen=True)
class DataSet(Event):
    """A data set that the trial uses.

    Attributes:
        split: train, val or test.
        digest: hexadecimal digits, equal for equal content.
        source: what makes it, such as a datamodule with its arguments.
        samples: their number, None if unknown.
        read: how many of them the digest covers, evenly spaced; 0: it tells kind and size alone. None in logs of older
            versions, whose digests are of another kind.
        classes: class number -> number of samples, if the targets are classes.
    """

    kind = "dataset"
    split: str
    name: str
    digest: str
    source: str
    samples: int | None = None
    read: int | None = None
    classes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report(Event):
    """A new value of the study's metric, for the pruner, and of its further objectives. One per validation."""

    kind = "report"
    step: int
    epoch: int
    value: float
    further: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fingerprint(Event):
    """What a training epoch ended with, as hashes, by which `harness replay` compares two trainings.

    Attributes:
        step: optimizer steps done.
        epoch: the epoch that ended, from 0.
        weights: 16 hexadecimal digits, of all parameters and buffers.
        parts: 4 hexadecimal digits of each parameter and buffer, in the module's order; "----" for one without bytes.
        samples: 16 hexadecimal digits of the indices that the training loaders' samplers drew in this epoch; empty
            if a loader does not tell them.
        names: one line for each of the parts; only in the first of a process.
    """

    kind = "fingerprint"
    step: int
    epoch: int
    weights: str
    parts: str
    samples: str = ""
    names: str = ""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is complete on disk. `value` is the metric's, or None if it only serves to resume."""

    kind = "checkpoint"
    path: str
    step: int
    epoch: int
    value: float | None = None


@dataclass(frozen=True)
class Notice(Event):
    """A message for the user's screen, e.g. that a checkpoint was skipped."""

    kind = "notice"
    text: str


@dataclass(frozen=True)
class Artifact(Event):
    """A file for the run's artifacts; `path` is relative to the trial's folder artifacts/."""

    kind = "artifact"
    path: str
    type: str


@dataclass(frozen=True)
class Resources(Event):
    """Resource usage of the trial process, under MLflow's names for system metrics (system/...)."""

    kind = "resources"
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Stopped(Event):
    """The trial was told to stop and ended in an orderly way; `why` is "pruned" or "interrupted"."""

    kind = "stopped"
    why: str
    summary: dict[str, float]


@dataclass(frozen=True)
class Finished(Event):
    """The trial completed. The summary holds best/..., test/... and fit_seconds.

    `value` is the metric of the saved weights if it differs from the best report (averaged weights); `further` are the
    further objectives then.
    """

    kind = "finished"
    summary: dict[str, float]
    value: float | None = None
    further: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(Event):
    """User code or the harness raised an exception."""

    kind = "failed"
    error: str
    traceback: str


EVENTS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        *(Started, Metrics, Params, Tags, DataSet, Report, Fingerprint, CheckpointSaved, Notice),
        *(Artifact, Resources, Stopped, Finished, Failed),
    )
}


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1e11  # seconds; MLflow stores milliseconds


def _is_text(value: Any) -> bool:
    return type(value) is str


def _maps_to(is_right: Check) -> Check:
    return lambda value: type(value) is dict and all(map(is_right, value.values()))


def _or_none(is_right: Check) -> Check:
    return lambda value: value is None or is_right(value)


# Anybody may have edited a log, or made one up; the rest of the harness relies on the annotations above.
KINDS: dict[str, Check] = {
    "int": _is_integer,
    "float": _is_number,
    "str": _is_text,
    "int | None": _or_none(_is_integer),
    "float | None": _or_none(_is_number),
    "dict[str, int]": _maps_to(_is_integer),
    "dict[str, float]": _maps_to(_is_number),
    "dict[str, str]": _maps_to(_is_text),
}
CHECKS = {
    kind: [(item.name, _is_time if item.name == "time" else KINDS[str(item.type)]) for item in fields(cls)]
    for kind, cls in EVENTS.items()
}


def parse_event(line: str | bytes) -> Event:
    """The event of one line of events.jsonl.

    Raises:
        ValueError: the line is not JSON, its kind is unknown or its fields do not match.
    """
    try:
        given = json.loads(line)
        kind = given.pop("kind")
        event = EVENTS[kind](**given)
        for name, is_right in CHECKS[kind]:
            if not is_right(getattr(event, name)):
                raise ValueError(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an event: {line!r:.120}") from error
    return event
