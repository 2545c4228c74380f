"""What a trial says: events, one line of JSON each, which anything may read. Standard library only."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import ClassVar

from studies.common.text import clean_json


@dataclass(frozen=True)
class Event:
    """Something a trial says, with a wall-clock stamp in seconds since 1970. One JSON line in events.jsonl."""

    kind: ClassVar[str] = "event"
    time: float = field(default_factory=time.time, kw_only=True)

    def to_json(self) -> str:
        return clean_json({"kind": self.kind, **vars(self)})


@dataclass(frozen=True)
class Started(Event):
    """The trial process is up. `epochs` and `steps` are the planned totals, None where unlimited."""

    kind = "started"
    pid: int
    host: str
    device: str
    versions: dict[str, str]
    epochs: int | None = None
    steps: int | None = None
    resumed_step: int | None = None


@dataclass(frozen=True)
class Metrics(Event):
    """Values that the trial's logger was given, by Lightning or by the user's code.

    Attributes:
        step: the step that the logger was given with them. Lightning's counts training steps from 0.
        epoch: the epoch in which they were said, from 0.
        values: "epoch" among them where Lightning logs it.
        done: optimizer steps done when they were said, or None in logs of earlier versions, where `step` was that
            and `values` had no epoch.
        batch: training batches begun by then. It never goes back while a trial runs, which `step` may do.
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
        """How far the trial was: what a trial that goes on repeats is recognised by it."""
        return self.step if self.batch is None else self.batch


@dataclass(frozen=True)
class Params(Event):
    """Parameters that the user's code logged, as text; the experiment's own are in the TrialSpec."""

    kind = "params"
    values: dict[str, str]


@dataclass(frozen=True)
class Tags(Event):
    """Tags that the user's code set on its run."""

    kind = "tags"
    values: dict[str, str]


@dataclass(frozen=True)
class Report(Event):
    """A new value of the metric the study searches by: what pruners judge. One per validation."""

    kind = "report"
    step: int
    epoch: int
    value: float


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is complete on disk. `value` is the monitored metric's, None for a plain going-on point."""

    kind = "checkpoint"
    path: str
    step: int
    epoch: int
    value: float | None = None


@dataclass(frozen=True)
class Notice(Event):
    """Something about the trial that the user should see on the screen: a checkpoint that was skipped, say."""

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
    """What the trial process uses, under MLflow's names for system metrics (system/...)."""

    kind = "resources"
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Stopped(Event):
    """The trial ended early, in order, because it was told to: why is "pruned" or "interrupted"."""

    kind = "stopped"
    why: str
    summary: dict[str, float]


@dataclass(frozen=True)
class Finished(Event):
    """The trial did all it was asked to. The summary holds best/..., test/... and fit_seconds.

    `value` is the metric of the weights that were kept, where it is not the best that was reported (averaged weights).
    """

    kind = "finished"
    summary: dict[str, float]
    value: float | None = None


@dataclass(frozen=True)
class Failed(Event):
    """The user's code, or ours, raised."""

    kind = "failed"
    error: str
    traceback: str


EVENTS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        *(Started, Metrics, Params, Tags, Report, CheckpointSaved, Notice, Artifact, Resources),
        *(Stopped, Finished, Failed),
    )
}


def parse_event(line: str | bytes) -> Event:
    """The event of one line of events.jsonl.

    Raises:
        ValueError: if the line is not JSON, its kind is unknown or its fields don't fit.
    """
    try:
        fields = json.loads(line)
        return EVENTS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line!r:.120}") from error
