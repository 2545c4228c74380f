"""All that crosses the border between driver and trial process: one TrialSpec in, Events out.

Both are plain JSON, so that a trial may run in a forked child, under torchrun, on another machine or by
hand, and its events may be read by anything. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from studies.common.atomic_files import left_over, write_whole
from studies.common.moved import moved_with


@dataclass(frozen=True)
class TrialSpec:
    """Everything one trial needs, complete: `python -m studies.trial spec.json` runs it by hand.

    Attributes:
        run_id: MLflow run id, also the name of the trial's folder.
        experiment: model, data, trainer, optimizer and lr_scheduler sections as they were written, with overrides and
            sampled values in; the trial process parses them as LightningCLI does.
        seed: training seed: weights, order of samples, dropout.
        folder: the trial's folder; events.jsonl, log.txt, checkpoints/ and artifacts/ are written there.
        study: name of the study, or None for a single run.
        number: number of the trial in its study, from 0.
        params: the sampled values among the experiment's parameters, by dotted name.
        metric: name of the metric that picks the best checkpoint and that pruners watch, e.g. "val/accuracy".
        direction: "maximize" or "minimize", of that metric.
        pruning: wait for the driver's verdict after each value of the metric.
        test: meet the test set once, with the best checkpoint, after the fit.
        resume: checkpoint to go on from, or None to start afresh.
        extends: the trial had ended, and goes on to more epochs.
        threads: CPU threads of this process; 0 leaves PyTorch's default.
        gpu: index of the one GPU this trial may use, or None for all that are visible.
        search_path: folders that come first on sys.path, where the user's own modules are found.
    """

    run_id: str
    experiment: dict[str, Any]
    seed: int
    folder: str
    study: str | None = None
    number: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    metric: str | None = None
    direction: str = "maximize"
    pruning: bool = False
    test: bool = False
    resume: str | None = None
    extends: bool = False
    threads: int = 0
    gpu: int | None = None
    search_path: list[str] = field(default_factory=list)

    def save(self) -> Path:
        """Writes spec.json into the trial's folder and returns its path."""
        path = Path(self.folder) / "spec.json"
        fields = dataclasses.asdict(self)
        fields["experiment"] = _as_json(self.experiment)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in left_over(path.parent):  # of a process that died here
            left.unlink(missing_ok=True)
        write_whole(path, json.dumps(fields, indent=1))
        return path

    @classmethod
    def load(cls, path: str | Path) -> TrialSpec:
        """Reads a spec.json. Where it lies is the trial's folder, wherever it was written."""
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        fields["experiment"] = _from_json(fields["experiment"])
        return cls(**moved_with(fields, Path(path).absolute().parent))


ITEMS = "\0items"  # key of what JSON has no mapping for


def _as_json(value: Any) -> Any:
    """A config as JSON gives it back: YAML's keys may be numbers, which JSON would turn into text."""
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _as_json(item) for key, item in value.items()}
        return {ITEMS: [[_as_json(key), _as_json(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set):
        return [_as_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    """Undoes _as_json."""
    if isinstance(value, dict):
        items = value[ITEMS] if ITEMS in value else value.items()
        return {_from_json(key): _from_json(item) for key, item in items}
    return [_from_json(item) for item in value] if isinstance(value, list) else value


_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # it is called by the thread that trains
ERROR_LIMIT, TRACEBACK_LIMIT = 2_000, 20_000  # characters of them in an event; log.txt has all


def clean_text(text: str, limit: int | None = None) -> str:
    """A text that terminals, files and databases take: without lone surrogates and NUL, which are written as escapes.

    Args:
        limit: characters that are kept of a longer one, the first half and the last.
    """
    if limit is not None and len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters are left out ...] {text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def clean_json(value: Any) -> str:
    """JSON of some plain value, all of whose texts are clean."""
    line = _ENCODE(value)
    if "\\ud" in line or "\\u0000" in line:  # how it writes surrogates, the pairs among them too
        line = _ENCODE(_cleaned(value))
    return line


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def error_text(error: BaseException) -> str:
    """What a user's code raised, as text for people: its class and what it says, which may be anything or fail."""
    name = type(error).__name__
    if type(error) is SystemExit:
        if isinstance(error.__context__, KeyboardInterrupt):  # what Lightning makes of it
            return "KeyboardInterrupt, raised within the trial"
        return clean_text(f"the trial called sys.exit({error.code!r})", ERROR_LIMIT)
    try:
        said = str(error)
    except Exception as failure:
        said = f"(its text cannot be had: __str__ raised {type(failure).__name__})"
    return clean_text(f"{name}: {said}" if said else name, ERROR_LIMIT)


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


def better(value: float, than: float | None, direction: str) -> bool:
    """Whether a metric's value beats another; anything finite beats None, and NaN beats nothing."""
    if value != value:
        return False
    return than is None or (value > than if direction == "maximize" else value < than)
