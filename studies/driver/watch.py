"""`harness watch`: what a study's databases and logs say about it while another process drives it. Writes nothing.

Optuna has the trials, each trial's event log its progress, and the study's lease file who drives it and how that ended.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.locks import may_live
from studies.common.regular_files import read_text
from studies.common.state_folder import StateFolder
from studies.console.progress import Display
from studies.protocol.events import Metrics, Started
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search, TrialRow, best_of
from studies.tracking.trial_log import TrialRecord

LARGEST_LEASE = 1_000_000  # bytes
ENDS = ("finished", "failed", "interrupted", "timeout")  # as in Result
GONE = "driver gone"


@dataclass(frozen=True)
class Driver:
    """What a study's lease file says about its latest driver.

    Attributes:
        pid, host: of the process; 0 and "" if nobody has driven the study from this state folder.
        since: Unix time at which it took the study, in seconds.
        total: number of trials that it works towards, or None while unknown.
        extends: numbers of the trials that `harness extend` trains further; None for `harness study`.
        ended: how it ended, one of ENDS, or None.
        lives: whether it may be running.
    """

    pid: int = 0
    host: str = ""
    since: float = 0.0
    total: int | None = None
    extends: list[int] | None = None
    ended: str | None = None
    lives: bool = False

    @classmethod
    def read(cls, path: Path) -> Driver:
        """Reads a lease file, which anybody may have edited; what is not as it should be counts as missing."""
        given: Any = None
        for _ in range(3):  # its holder may be writing it
            try:
                given = json.loads(read_text(path, LARGEST_LEASE))
                break
            except FileNotFoundError:
                break
            except (OSError, ValueError, RecursionError):
                time.sleep(0.05)
        if not isinstance(given, dict):
            return cls()
        kinds: dict[str, Any] = {"pid": int, "host": str, "since": float, "total": int, "extends": list}
        fields = {name: given[name] for name, kind in kinds.items() if type(given.get(name)) is kind}
        fields["ended"] = given["ended"] if given.get("ended") in ENDS else None
        return cls(**fields, lives=fields["ended"] is None and may_live(str(given.get("process"))))


@dataclass
class Progress:
    """A running trial, followed in its event log."""

    record: TrialRecord | None = None  # None until the trial's folder has a specification
    events: list[Metrics] = field(default_factory=list)  # new ones, of its present process
    began: float | None = None  # Unix time at which its present process started

    def read(self) -> None:
        self.events = []
        for event in self.record.read() if self.record else []:
            if isinstance(event, Started):
                self.began, self.events = event.time, []
            elif isinstance(event, Metrics):
                self.events.append(event)


class Watch:
    """Follows a study and tells a display about it.

    Args:
        name: of the study.

    Attributes:
        driver: who drives it, when `look` was called last.
        rows: its trials, by number.
        status: "running", one of ENDS, or GONE: its driver was killed.

    Raises:
        ValueError: in one line: there is no such study, or it cannot be read.
    """

    def __init__(self, state_folder: StateFolder, name: str) -> None:
        self.name = name
        self._state_folder = state_folder
        self._lease = state_folder.lease(name)
        self.search = Search.existing(state_folder.storage, name)
        definition = self.search.definition
        self.metric, self.direction = str(definition["metric"]), str(definition["direction"])
        self.driver = Driver()
        self.rows: list[TrialRow] = []
        self._running: dict[int, Progress] = {}
        self._ended: set[int] = set()
        self._looked = False

    def display(self, **options: Any) -> Display:
        """A display of this study, which has not begun to draw."""
        return Display(title=f"study {self.name}", metric=self.metric, direction=self.direction, total=0, **options)

    @property
    def status(self) -> str:
        if self.driver.lives:
            return "running"
        if self.driver.ended is not None:
            return self.driver.ended
        open_trials = any(_state(row) in ("RUNNING", "WAITING") for row in self.rows)
        return GONE if self.driver.pid and open_trials else "interrupted" if open_trials else "finished"

    @property
    def best(self) -> TrialRow | None:
        return best_of(self.rows, self.search.objectives)

    def look(self, display: Display) -> None:
        """Reads what is new and tells the display."""
        self.driver = Driver.read(self._lease)  # before the trials: what it ended is in the databases
        self.rows = self.search.trials()
        only = self.driver.extends
        shown = [row for row in self.rows if only is None or row.number in only]
        display.total = max(self.driver.total or 0, len(shown))
        for row in shown:
            if _state(row) == "RUNNING" and self.driver.lives:
                self._follow(row, display)
            elif row.number in self._running:
                began = self._running.pop(row.number).began
                state = "INTERRUPTED" if _state(row) in ("RUNNING", "WAITING") else row.state
                display.trial_ended(row.number, state, row.value, time.time() - began if began else 0.0)
                self._ended.add(row.number)
            elif row.number not in self._ended and _state(row) not in ("RUNNING", "WAITING"):
                self._end(row, display)
        self._looked = True

    def _end(self, row: TrialRow, display: Display) -> None:
        """A trial that was never seen running."""
        self._ended.add(row.number)
        is_of_driver = row.began is not None and row.began >= self.driver.since
        if self._looked and is_of_driver:
            display.trial_started(row.number, row.params, _monotonic(row.began))
            display.trial_ended(row.number, row.state, row.value, row.seconds or 0.0)
        else:  # of an earlier driver, whose interruptions may be part of its duration
            display.known(row.number, row.params, row.state, row.value, row.seconds if is_of_driver else None)

    def _follow(self, row: TrialRow, display: Display) -> None:
        progress = self._running.get(row.number)
        is_new = progress is None
        if progress is None:
            progress = self._running[row.number] = Progress()
            self._ended.discard(row.number)
        if progress.record is None and row.run_id is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):  # not written yet, or not readable
                spec = TrialSpec.load(self._state_folder.trial_folder(row.run_id) / "spec.json")
                progress.record = TrialRecord(spec, None)
        progress.read()
        if is_new:
            display.trial_started(row.number, row.params, _monotonic(progress.began or row.began))
        record = progress.record
        for event in progress.events:
            assert record is not None
            newest = {name: value for name, value in record.newest.items() if math.isfinite(value)}
            at = _monotonic(event.time)
            display.trial_progress(row.number, event.epoch, record.epochs, event.progress, record.steps, newest, at)

    def to_json(self, display: Display) -> dict[str, Any]:
        """The study's state: trials as `harness study --json` prints them, running ones with their progress."""
        driver, best = self.driver, self.best
        trials = [row.to_json() | self._progress(row, display) for row in self.rows]
        return {
            "study": self.name,
            "status": self.status,
            "driver": {"pid": driver.pid, "host": driver.host} if driver.lives else None,
            "metric": self.metric,
            "direction": self.direction,
            "total": driver.total,
            "trials": trials,
            "best": {key: value for key, value in best.to_json().items() if key != "state"} if best else None,
            "trials_per_second": display.rate,
            "seconds_left": display.left if driver.lives else None,
        }

    def _progress(self, row: TrialRow, display: Display) -> dict[str, Any]:
        """A running trial's progress, of one that is extended too; {} for others."""
        shown = display.row(row.number)
        if row.number not in self._running or shown is None:
            return {}
        if shown.updated is None:
            return {"state": "RUNNING"}
        places = {
            "state": "RUNNING",
            "epoch": shown.epoch + 1,
            "epochs": shown.epochs,
            "step": shown.step,
            "steps": shown.steps,
        }
        return {**places, "steps_per_second": shown.speed, "seconds_left": shown.left, "metrics": shown.metrics}


def _state(row: TrialRow) -> str:
    """A trial's state in Optuna, RUNNING while it is extended."""
    return "RUNNING" if row.extension and not row.extension["done"] else row.state


def _monotonic(at: float | None) -> float | None:
    """A Unix time as one of time.monotonic(), not in the future."""
    return None if at is None else time.monotonic() - max(0.0, time.time() - at)
