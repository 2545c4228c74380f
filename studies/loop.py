"""The loop that joins executor, tracking and search: submits trials, reads their events, answers them.

A trial's events go one way only: its log -> here -> MLflow (batched, on another thread) and the source of
trials (which tells Optuna). One loop serves single runs and studies.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from studies.event_log import NAME, EventReader
from studies.executors.local import LocalExecutor, Message
from studies.messages import (
    Artifact,
    CheckpointSaved,
    Event,
    Failed,
    Finished,
    Metrics,
    Report,
    Resources,
    Started,
    Stopped,
    TrialSpec,
    better,
)
from studies.tracking_queue import TrackingQueue

DEATHS = 3  # a trial whose process dies goes on from its checkpoint; after so many deaths it has failed
FLUSH_SECONDS = 1.0


@dataclass
class Ending:
    """How a trial ended. `state`: COMPLETE, PRUNED, FAIL or INTERRUPTED; `value`: the metric's best."""

    state: str
    value: float | None
    metrics: dict[str, float]
    seconds: float
    error: str | None = None


class Source(Protocol):
    """Where trials come from and what becomes of them: a single run, or a search."""

    def next(self) -> TrialSpec | None:
        """The next trial to run, or None when there is none (left)."""

    def report(self, spec: TrialSpec, count: int, value: float) -> bool:
        """A trial's count-th value of the metric, from 1; returns whether to prune it."""

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        """A trial has ended."""


@dataclass
class Live:
    """A trial that runs, as the loop knows it."""

    spec: TrialSpec
    reader: EventReader
    began: float
    ending: Event | None = None
    reports: int = 0
    best: float | None = None
    newest: dict[str, float] = field(default_factory=dict)  # metric -> its latest value
    logged: dict[str, int] = field(default_factory=dict)  # metric -> the last step that was logged
    floor: dict[str, int] = field(default_factory=dict)  # the same when the trial went on: what it repeats
    reported: int = -1  # the last step that was reported
    deaths: int = 0
    epochs: int | None = None
    steps: int | None = None
    prune: bool = False
    heard: float = field(default_factory=time.monotonic)  # when it last said something of its work


class TrialLoop:
    """Runs the trials of a source until there are none left, the time is over, or it is interrupted.

    Args:
        display: see studies.display.Display.
        deadline: time.monotonic() after which running trials are stopped as interrupted, or None.
        silence: seconds without an event after which a trial has hung: it is killed and has failed; or None.
    """

    def __init__(
        self,
        executor: LocalExecutor,
        tracking: TrackingQueue,
        display: Any,
        deadline: float | None = None,
        silence: float | None = None,
    ) -> None:
        self.executor = executor
        self.tracking = tracking
        self.display = display
        self.deadline = deadline
        self.silence = silence
        self.timed_out = False
        self._signals: list[int] = []
        self._told = False  # whether the trials were told to stop
        self._live: dict[str, Live] = {}
        if hasattr(executor, "handler"):
            executor.handler = self._on_message  # the inline executor has no process to wait for

    def run(self, source: Source) -> None:
        self._source = source
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        flushed = time.monotonic()
        try:
            while True:
                while self.executor.free and not self._stopping and (spec := source.next()) is not None:
                    self._submit(spec)
                if not self._live:
                    break
                for message in self.executor.wait(0.25):
                    self._on_message(message)
                self._act_on_signals()
                self._end_the_silent()
                if self.deadline is not None and time.monotonic() > self.deadline and not self.timed_out:
                    self.timed_out = True
                    self._stop_all()
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    flushed = time.monotonic()
                    self.tracking.check()
                    self.tracking.put("flush")
                    self.display.refresh()
        finally:
            self.executor.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @property
    def signal(self) -> int | None:
        """The signal that interrupted us, if one did."""
        return self._signals[0] if self._signals else None

    @property
    def _stopping(self) -> bool:
        return bool(self._signals) or self.timed_out

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals.append(number)  # no more: the loop may be in the middle of anything

    def _act_on_signals(self) -> None:
        if self._signals and not self._told:
            self._told = True
            self.display.say("stopping: trials save and end at their next step; once more stops them at once")
            self._stop_all()
        if len(self._signals) > 1:
            for run_id in self.executor.running:
                self.executor.kill(run_id)

    def _end_the_silent(self) -> None:
        for run_id, live in self._live.items():
            if self.silence is not None and time.monotonic() - live.heard > self.silence and live.ending is None:
                error = f"the trial said nothing for {self.silence:.0f} s (--trial-timeout) and was killed"
                live.ending = Failed(error, error + "; log.txt may say why")
                self.executor.kill(run_id)

    def _stop_all(self) -> None:
        for run_id in self.executor.running:
            self.executor.stop(run_id, "interrupted")

    def _submit(self, spec: TrialSpec) -> None:
        live = Live(spec, EventReader(Path(spec.folder) / NAME), time.monotonic())
        self._read(live)  # what a former driver did not get to log; the same rows are stored once
        if live.ending is not None and not _may_go_on(live.ending):
            self._close(live)
            return
        live.ending, live.floor, live.heard = None, dict(live.logged), time.monotonic()
        self._live[spec.run_id] = live
        self.display.trial_started(spec.number, spec.params)
        self.executor.submit(spec)

    def _on_message(self, message: Message) -> None:
        live = self._live.get(message.run_id)
        if live is None:
            return
        self._read(live)
        if message.kind == "verdict?":
            stop = "interrupted" if self._stopping else "pruned" if live.prune else None
            self.executor.answer(message.run_id, stop)
        elif message.kind == "exited":
            self._exited(live, message.status)

    def _read(self, live: Live) -> None:
        for event in live.reader.read():
            if not isinstance(event, Resources):  # those come from a thread, which lives on where training hangs
                live.heard = time.monotonic()
            self._take(live, event)

    def _take(self, live: Live, event: Event) -> None:
        """One event: to the display, the source and the tracking, in that order of haste."""
        number = live.spec.number
        if isinstance(event, Metrics):
            live.newest |= event.values
            new = {name: value for name, value in event.values.items() if event.step > live.floor.get(name, -1)}
            live.logged |= dict.fromkeys(new, event.step)
            if not new:
                return
            event = replace(event, values=new)
            self.display.trial_progress(number, event.epoch, live.epochs, event.step, live.steps, live.newest)
        elif isinstance(event, Report):
            if better(event.value, live.best, live.spec.direction):
                live.best = event.value
            if event.step > live.reported:
                live.reported, live.reports = event.step, live.reports + 1
                live.prune = self._source.report(live.spec, live.reports, event.value)
            return
        elif isinstance(event, Started):
            live.epochs, live.steps = event.epochs, event.steps
            live.floor = dict(live.logged)
        elif isinstance(event, Finished | Stopped | Failed):
            live.ending = event
            return  # logged when the process is gone, with the files
        elif isinstance(event, CheckpointSaved | Artifact):
            return  # the files go at the end
        self.tracking.put("log", live.spec.run_id, event)

    def _exited(self, live: Live, status: int | None) -> None:
        del self._live[live.spec.run_id]
        if live.ending is None:
            live.deaths += 1
            if self._stopping:
                live.ending = Stopped("interrupted", {})
            elif live.deaths < DEATHS:
                self.display.say(f"trial {live.spec.number}: its process {_died(status)}; it goes on")
                resume = newest_checkpoint(Path(live.spec.folder))
                live.spec = replace(live.spec, resume=resume)
                self._live[live.spec.run_id] = live
                self.executor.submit(live.spec)
                return
            else:
                error = f"the trial's process {_died(status)}, {live.deaths} times"
                live.ending = Failed(error, error + "; log.txt may say why")
        self._close(live)

    def _close(self, live: Live) -> None:
        spec, event = live.spec, live.ending
        assert event is not None
        value = live.best
        metrics = {**live.newest, **getattr(event, "summary", {})}
        seconds = metrics.get("fit_seconds", time.monotonic() - live.began)
        if isinstance(event, Finished):
            ending, status, outcome = Ending("COMPLETE", value, metrics, seconds), "FINISHED", None
            if value is None and spec.metric is not None:
                error = f"the metric {spec.metric} never had a number"
                ending, status, outcome = Ending("FAIL", None, metrics, seconds, error), "FAILED", "failed"
        elif isinstance(event, Stopped):
            state = "PRUNED" if event.why == "pruned" else "INTERRUPTED"
            ending, status, outcome = Ending(state, value, metrics, seconds), "KILLED", event.why
        else:
            assert isinstance(event, Failed)
            ending, status, outcome = Ending("FAIL", None, metrics, seconds, event.error), "FAILED", "failed"
        self.tracking.put("log", spec.run_id, event)
        folder = Path(spec.folder)
        self.tracking.put("log_files", spec.run_id, folder / "artifacts")
        self.tracking.put("log_files", spec.run_id, folder / "log.txt")
        self.tracking.put("log_files", spec.run_id, folder / "checkpoints" / "best.ckpt", "checkpoints")
        self.tracking.put("end", spec.run_id, status, outcome)
        self._source.ended(spec, ending)
        self.display.trial_ended(spec.number, ending.state, value, seconds)
        if ending.error:
            self.display.say(f"trial {spec.number}: {ending.error}")


def _may_go_on(ending: Event) -> bool:
    return isinstance(ending, Stopped) and ending.why == "interrupted"


def newest_checkpoint(folder: Path) -> str | None:
    """Where a trial can go on, or None to start it again."""
    last = folder / "checkpoints" / "last.ckpt"
    return str(last) if last.exists() and last.stat().st_size > 0 else None


def _died(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status} before it said so"
