"""Follows a trial's log: sends new events to MLflow, and at the end files, summary and status.

Reading a log again from the beginning sends the same rows, which MLflow stores once. So `harness doctor`, or a driver
that takes over from a dead one, need not know how far that one got.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from studies.common.atomic_files import left_over
from studies.common.objective import better
from studies.common.trust import leads_out
from studies.protocol.checkpoint_files import BEST, LAST, PREVIOUS
from studies.protocol.checkpoint_files import FOLDER as CHECKPOINTS
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import (
    CheckpointSaved,
    DataSet,
    Event,
    Failed,
    Finished,
    Metrics,
    Params,
    Report,
    Resources,
    Started,
    Stopped,
    Tags,
)
from studies.protocol.metric_names import stored_text
from studies.protocol.output_log import output_log
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.queue import TrackingQueue

STATUSES = {"COMPLETE": ("FINISHED", None), "PRUNED": ("KILLED", "pruned"), "FAIL": ("FAILED", "failed")}
STATUSES["INTERRUPTED"] = ("KILLED", "interrupted")  # RUNNING in Optuna, without a process


ERROR_LENGTH = 4000  # characters of an error shown; log.txt has the full text


@dataclass
class Ending:
    """How a trial ended.

    Attributes:
        state: COMPLETE, PRUNED, FAIL or INTERRUPTED.
        value: metric of the saved weights.
        further: their further objectives.
    """

    state: str
    value: float | None
    metrics: dict[str, float]
    seconds: float
    error: str | None = None
    further: dict[str, float] = field(default_factory=dict)


class TrialRecord:
    """Follows the log of one trial.

    Args:
        spec: the trial's; the log is in its folder.
        tracking: receives the events; None: only read.

    Attributes:
        ending: the event that ended the trial, or None while it runs.
        reports: number of reported values of the study's metric.
        best: the best of them; `best_further`: the further objectives reported with it.
        newest: metric -> its latest value.
        saved: step of the newest checkpoint, or -1.
        megabytes: last reported memory usage of its process.
        epochs, steps: planned totals, None where unlimited.
    """

    def __init__(self, spec: TrialSpec, tracking: TrackingQueue | None) -> None:
        self.spec = spec
        self.tracking = tracking
        self.began = time.monotonic()
        self.ending: Event | None = None
        self.reports = 0
        self.best: float | None = None
        self.best_further: dict[str, float] = {}
        self.newest: dict[str, float] = {}
        self.saved = -1
        self.megabytes: float | None = None
        self.epochs: int | None = None
        self.steps: int | None = None
        self._reader = EventReader(Path(spec.folder) / NAME)
        # metric -> (position at which it was last logged, number of times logged at that position)
        self._logged: dict[str, tuple[int, int]] = {}
        self._floor: dict[str, tuple[int, int]] = {}  # the same at the last resume: values up to there are repeats
        self._again: dict[str, int] = {}  # metric -> number of repeats at its floor
        self._sampled = self._samples_before = 0  # resource samples: total, and before the last resume
        self._reported = -1

    def read(self) -> list[Event]:
        """Reads new events, sends them to MLflow and returns them, without those that a resumed trial repeats."""
        return [event for event in map(self._take, self._reader.read()) if event is not None]

    def warnings(self) -> list[str]:
        """Warnings about log lines that could not be parsed since the last call."""
        lines, self._reader.broken = self._reader.broken, []
        return [f"skipped a line that cannot be parsed: {line}" for line in lines]

    def _take(self, event: Event) -> Event | None:
        if isinstance(event, Metrics):
            self.newest |= {name: value for name, value in event.values.items() if name != "epoch"}
            new = {name: value for name, value in event.values.items() if self._is_new(name, event.position)}
            if not new:
                return None
            event = replace(event, values=new)
        elif isinstance(event, Report):
            if better(event.value, self.best, self.spec.direction):
                self.best, self.best_further = event.value, event.further
            if event.step <= self._reported:
                return None
            self._reported, self.reports = event.step, self.reports + 1
        elif isinstance(event, Started):
            self.epochs, self.steps, self.ending = event.epochs, event.steps, None
            self._floor, self._again = dict(self._logged), {}
            self._samples_before = self._sampled
        elif isinstance(event, CheckpointSaved):
            self.saved = max(self.saved, event.step)
        elif isinstance(event, Resources):
            self.megabytes = event.values.get("system/process_memory_megabytes", self.megabytes)
            event = replace(event, step=event.step + self._samples_before)  # each process counts from 0
            self._sampled = event.step + 1
        elif isinstance(event, Finished | Stopped | Failed):
            self.ending = event  # logged together with the files, once the process is gone
        if self.tracking is not None and isinstance(event, Metrics | Params | Tags | DataSet | Started | Resources):
            self.tracking.soon.log(self.spec.run_id, event)
        return event

    def _is_new(self, name: str, position: int) -> bool:
        """Whether a metric value is new rather than a repeat after a resume.

        Decided by the trial's position, since user code may choose any step, and by the number of times if a metric is
        logged several times at one position, as in each batch of a validation.
        """
        floor, times = self._floor.get(name, (-1, 0))
        if position == floor:
            self._again[name] = self._again.get(name, 0) + 1
        if position < floor or (position == floor and self._again[name] <= times):
            return False
        last, count = self._logged.get(name, (-1, 0))
        self._logged[name] = (position, count + 1 if position == last else 1)
        return True

    def fail(self, error: str) -> None:
        """Appends a failure to the log of a trial that died without reporting it."""
        self.ending = Failed(error, f"{error}; see log.txt")
        log = EventWriter(Path(self.spec.folder) / NAME)
        log.append(self.ending, durable=True)
        log.close()

    @property
    def state(self) -> str | None:
        """How the trial ended according to its log (see Ending), or None if it has not."""
        return self._ending_of(self.ending).state if self.ending is not None else None

    @property
    def value(self) -> float | None:
        """The metric of the saved weights: the best, unless they were averaged at the end."""
        averaged = self.ending.value if isinstance(self.ending, Finished) else None
        return self.best if averaged is None else averaged

    @property
    def further(self) -> dict[str, float]:
        """The further objectives of the saved weights."""
        averaged = isinstance(self.ending, Finished) and self.ending.value is not None
        return self.ending.further if averaged else self.best_further  # type: ignore[union-attr]

    def end(self, event: Event) -> Ending:
        """Sends the trial's files, summary and status to MLflow.

        In a state folder that is not trusted, only the status if a link leads to files elsewhere.
        """
        assert self.tracking is not None
        ending = self._ending_of(event)
        run_id, folder = self.spec.run_id, Path(self.spec.folder)
        if not self.spec.trusted and leads_out(folder, folder.parent):
            self.tracking.soon.end(run_id, *STATUSES[ending.state])
            return ending
        for half_written in left_over(folder):  # by a killed process
            half_written.unlink(missing_ok=True)
        self.tracking.soon.log(run_id, event)
        self.tracking.soon.log_files(run_id, folder / "artifacts")
        if (log := output_log(folder)).parent == folder:  # of an older version
            self.tracking.soon.log_files(run_id, log)
        self.tracking.soon.log_files(run_id, folder / CHECKPOINTS / BEST, CHECKPOINTS)
        self.tracking.soon.end(run_id, *STATUSES[ending.state])
        if ending.state in ("COMPLETE", "PRUNED") and (folder / CHECKPOINTS / LAST).exists():
            (folder / CHECKPOINTS / PREVIOUS).unlink(missing_ok=True)  # kept in case the trial's process dies
        return ending

    def end_as(self, state: str) -> Ending:
        """Like `end`, for a trial whose state is known otherwise; uses the log's last event if it agrees."""
        told: dict[str, Event] = {"COMPLETE": Finished({}), "PRUNED": Stopped("pruned", {})}
        told |= {"INTERRUPTED": Stopped("interrupted", {}), "FAIL": Failed("the trial failed", "its log has no more")}
        return self.end(self.ending if self.ending is not None and self.state == state else told[state])

    def _ending_of(self, event: Event) -> Ending:
        metrics = {**self.newest, **getattr(event, "summary", {})}
        seconds = metrics.get("fit_seconds", time.monotonic() - self.began)
        if isinstance(event, Finished):
            if self.best is None and self.spec.metric is not None:
                return Ending("FAIL", None, metrics, seconds, f"the metric {self.spec.metric} was never a number")
            for name in self.spec.further:
                if math.isnan(self.further.get(name, math.nan)):
                    error = f"the metric {name} was not a number when {self.spec.metric} was best"
                    return Ending("FAIL", None, metrics, seconds, error)
            return Ending("COMPLETE", self.value, metrics, seconds, further=self.further)
        if isinstance(event, Stopped):
            state = "PRUNED" if event.why == "pruned" else "INTERRUPTED"
            return Ending(state, self.best, metrics, seconds, further=self.best_further)
        assert isinstance(event, Failed)
        return Ending("FAIL", None, metrics, seconds, stored_text(event.error, ERROR_LENGTH))
