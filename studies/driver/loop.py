"""The loop that joins executor, tracking and search: submits trials, reads their events, answers them.

A trial's events flow in one direction: its log -> here -> MLflow (batched, in another thread) and the source of
trials (which tells Optuna). The same loop serves single runs and studies.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studies.common import out_of_memory as memory
from studies.common.errors import DISK_FULL, StorageFailed
from studies.driver.trial_source import TrialSource
from studies.executors.base import Executor, Message
from studies.protocol.checkpoint_files import newest_checkpoint
from studies.protocol.events import Metrics, Notice, Report, Resources, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.queue import TrackingQueue
from studies.tracking.trial_log import TrialRecord

CRASHES = 5  # a trial whose process dies resumes; after this many crashes without progress it fails
LOOK_SECONDS = 1.0  # between checks of timeouts and display updates
# Events are flushed to MLflow every few seconds, less often if many trials train at once: each flush costs about 10 ms
# of CPU per trial, which training needs more.
FLUSH_SECONDS, FLUSH_SECONDS_EACH, FLUSH_SECONDS_AT_MOST = 3.0, 0.2, 10.0


@dataclass
class Live:
    """A running trial, as tracked by the loop.

    Attributes:
        verdict: why the loop killed it, if it did.
        crashes: number of process crashes since it last saved a new step (`saved`).
        heard: time of its last progress event.
        oom_kills: the kernel's count of OOM kills when the trial was last known to be alive.
    """

    spec: TrialSpec
    record: TrialRecord
    prune: bool = False
    verdict: str | None = None
    crashes: int = 0
    saved: int = -1
    heard: float = field(default_factory=time.monotonic)
    oom_kills: int = field(default_factory=memory.kills)


class TrialLoop:
    """Runs the trials of a source until none are left, the deadline passes, or it is interrupted.

    Args:
        display: see studies.console.progress.Display.
        deadline: time.monotonic() after which running trials are stopped as interrupted, or None.
        silence: seconds without an event after which a trial counts as hung, is killed and fails; or None.
    """

    def __init__(
        self,
        executor: Executor,
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
        self._full: str | None = None  # the folder whose disk is full, if any
        self._trouble = False  # whether the user was told that MLflow is not responding
        self._signals: list[int] = []
        self._told = False  # whether the trials were told to stop
        self._live: dict[str, Live] = {}
        if hasattr(executor, "handler"):
            executor.handler = self._on_message  # the inline executor has no process to wait for

    def run(self, source: TrialSource) -> None:
        self._source = source
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        self._looked = self._flushed = time.monotonic()
        self.tracking.meanwhile = lambda: self._serve(0.0)
        try:
            for spec, state in source.unrecorded():
                record = TrialRecord(spec, self.tracking)
                record.read()
                record.end_as(state)
            while True:
                while self.executor.free and not self._stopping and (spec := source.next()) is not None:  # type: ignore[assignment]
                    self._submit(spec)
                if not self._live:
                    break
                self._serve(0.25)
            source.write()
        finally:
            self.tracking.meanwhile = self.display.refresh
            self.executor.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._full is not None:
            raise StorageFailed(self._full)

    def _serve(self, seconds: float) -> None:
        """Handles messages, signals and timeouts once; submits nothing."""
        for message in self.executor.wait(seconds):
            self._on_message(message)
        self._act_on_signals()
        self._end_the_silent()
        if self.deadline is not None and time.monotonic() > self.deadline and not self.timed_out:
            self.timed_out = True
            self._stop_all()
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            kills = memory.kills()
            for live in self._live.values():
                live.oom_kills = kills
            self._source.write()
            self.tracking.check()
            seconds = max(FLUSH_SECONDS, FLUSH_SECONDS_EACH * len(self._live))
            if now - self._flushed > min(seconds, FLUSH_SECONDS_AT_MOST):
                self._flushed = now
                self.tracking.soon.flush()
            self._tell_of_trouble()
            self.display.refresh()

    def _tell_of_trouble(self) -> None:
        trouble = self.tracking.trouble
        if trouble and not self._trouble:
            self.display.say(f"waiting for MLflow ({trouble}): training continues and its results are kept")
        if self._trouble and not trouble:
            self.display.say("MLflow is responding again")
        self._trouble = bool(trouble)

    @property
    def signal(self) -> int | None:
        """The signal that interrupted the loop, if any."""
        return self._signals[0] if self._signals else None

    @property
    def _stopping(self) -> bool:
        return bool(self._signals) or self.timed_out or self._full is not None

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals.append(number)  # nothing else in a signal handler: the loop may be in any state

    def _act_on_signals(self) -> None:
        if self._signals and not self._told:
            self._told = True
            self.display.say("stopping: trials save and end at their next step; interrupt again to stop at once")
            self.tracking.hurry()
            self._stop_all()
        if len(self._signals) > 1:
            for run_id in self.executor.running:
                self.executor.kill(run_id)

    def _end_the_silent(self) -> None:
        for run_id, live in self._live.items():
            if not self.executor.has_begun(run_id):
                live.heard = time.monotonic()
            if self.silence is not None and time.monotonic() - live.heard > self.silence and live.verdict is None:
                live.verdict = f"the trial sent no event for {self.silence:.0f} s (--trial-timeout) and was killed"
                self.executor.kill(run_id)

    def _stop_all(self) -> None:
        for run_id in self.executor.running:
            self.executor.stop(run_id, "interrupted")

    def _submit(self, spec: TrialSpec) -> None:
        live = Live(spec, TrialRecord(spec, self.tracking))
        self._read(live)  # events that a previous driver did not log
        if live.record.ending is not None and not self._source.may_resume(spec, live.record.ending):
            self._close(live, earlier=True)
            return
        live.record.ending = None
        self.display.trial_started(spec.number, spec.params)
        self._start(live)

    def _start(self, live: Live) -> None:
        live.spec = replace(live.spec, resume=newest_checkpoint(Path(live.spec.folder)))
        live.heard, live.oom_kills = time.monotonic(), memory.kills()
        self._live[live.spec.run_id] = live
        self.executor.submit(live.spec)

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
        """Passes a trial's new events to MLflow, the display and the source."""
        record, number = live.record, live.spec.number
        for event in record.read():
            if not isinstance(event, Resources):  # sent by a thread that keeps running while training hangs
                live.heard = time.monotonic()
            if isinstance(event, Metrics) and live.spec.run_id in self._live:  # and not of an earlier start
                self.display.trial_progress(
                    number, event.epoch, record.epochs, event.progress, record.steps, record.newest
                )
            elif isinstance(event, Notice):
                self.display.say(f"{self.display.unit} {number}: {event.text}")
            elif isinstance(event, Report):
                live.prune = self._source.report(live.spec, record.reports, event.value, event.further)
        for line in record.warnings():
            self.display.say(line)

    def _exited(self, live: Live, status: int | None) -> None:
        del self._live[live.spec.run_id]
        if live.record.ending is None:
            live.crashes = live.crashes + 1 if live.record.saved <= live.saved else 1
            live.saved = live.record.saved
            if status == DISK_FULL:
                self._full = (
                    f"no space left on the disk of {live.spec.folder}: free some, then run the same command to resume"
                )
                self._stop_all()
            error = self._why_failed(live, status)
            if error is None and not self._stopping:
                self.display.say(f"{self.display.unit} {live.spec.number}: its process {_died(status)}; resuming")
                self._start(live)
                return
            if error is None:
                live.record.ending = Stopped("interrupted", {})
            else:
                live.record.fail(error)
        self._close(live)

    def _why_failed(self, live: Live, status: int | None) -> str | None:
        """Why a trial whose process died has failed; None if it may resume."""
        if live.verdict is not None:
            return live.verdict
        if status == -signal.SIGKILL and memory.kills() > live.oom_kills:
            return memory.explain(live.spec.experiment, live.record.megabytes)
        if live.crashes >= CRASHES and not self._stopping:
            return f"the trial's process {_died(status)}, {live.crashes} times without progress"
        return None

    def _close(self, live: Live, earlier: bool = False) -> None:
        assert live.record.ending is not None
        ending = live.record.end(live.record.ending)
        whole = self._source.ended(live.spec, ending)
        if whole is not None and earlier:
            self.display.known(live.spec.number, live.spec.params, whole.state, whole.value)
        elif whole is not None:
            self.display.trial_ended(live.spec.number, whole.state, whole.value, whole.seconds)
        if ending.error:
            self.display.say(f"{self.display.unit} {live.spec.number}: {ending.error}")


def _died(status: int | None) -> str:
    if status is None:
        return "died along with the trials it was packed with"
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status} without reporting a result"
