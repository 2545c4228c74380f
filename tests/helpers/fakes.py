"""Fakes of the driver's collaborators."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from studies.executors.base import Message
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Report
from studies.protocol.trial_spec import TrialSpec
from studies.search import TrialRow


class Calls:
    """A tracking queue that records calls: (method, arguments ...).

    Args:
        answers: method -> return value.
    """

    def __init__(self, **answers: Any) -> None:
        self.made: list[tuple[Any, ...]] = []
        self._answers = answers
        self.now = self.soon = self.first = _Methods(self._note)
        self.trouble: str | None = None
        self.checks = self.hurried = 0

    def _note(self, method: str, *arguments: Any) -> Any:
        self.made.append((method, *arguments))
        return self._answers.get(method)

    def check(self) -> None:
        self.checks += 1

    def hurry(self) -> None:
        self.hurried += 1


class _Methods:
    def __init__(self, note: Any) -> None:
        self._note = note

    def __getattr__(self, method: str) -> Any:
        return partial(self._note, method)


class Screen:
    """A display that shows nothing; keeps the lines said, and its other calls as (method, arguments ...)."""

    unit = "trial"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.calls: list[tuple[Any, ...]] = []
        self.total: int | None = None

    def say(self, line: str) -> None:
        self.said.append(line)

    inform = say

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append((method, *arguments))


class FakeSearch:
    """A search over these trials, which writes down what it is told: (method, arguments ...).

    Args:
        rows: what it has; `ask` opens one more, `reopen` returns the one of that number.
        points: see Search.points.
    """

    name = "s"
    definition: ClassVar[dict[str, Any]] = {
        "experiment": {"name": "toy"},
        "space": "space:of",
        "metric": "val/loss",
        "direction": "minimize",
        "seed": 0,
    }

    def __init__(self, rows: Sequence[TrialRow] = (), points: int | None = None) -> None:
        self.rows, self.points = list(rows), points
        self.made: list[tuple[Any, ...]] = []

    def trials(self) -> list[TrialRow]:
        return list(self.rows)

    def ask(self) -> TrialRow:
        self.rows.append(TrialRow(len(self.rows), "RUNNING", None, {"model.learning_rate": 0.5}))
        return self.rows[-1]

    def reopen(self, number: int) -> TrialRow:
        self.made.append(("reopen", number))
        return self.rows[number]

    def report(self, number: int, count: int, value: float, further: dict[str, float]) -> bool:
        self.made.append(("report", number, count, value, further))
        return count == 3

    def importances(self, most: int = 0) -> dict[str, float]:
        return {}

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: self.made.append((method, *arguments))


def log(folder: str | Path, events: Sequence[Event]) -> None:
    """Writes a trial's events to its folder."""
    writer = EventWriter(Path(folder) / NAME)
    for event in events:
        writer.append(event)
    writer.close()


class FakeExecutor:
    """An executor without processes: a trial emits one event at each `wait` and exits after the last.

    Args:
        script: the events of a trial; called again when it is submitted again.
        waited: called at each `wait`, before events are emitted.
        statuses: exit statuses of the processes, in the order of submission; 0 for the others.

    Attributes:
        asked: (run id, reason) of each request to stop, and (run id, None) of each kill.
        answers: the verdicts given: one for each report of a trial.
    """

    threads, gpus = 1, 0

    def __init__(
        self,
        script: Callable[[TrialSpec], Sequence[Event]],
        waited: Callable[[], None] = lambda: None,
        workers: int = 1,
        statuses: Sequence[int | None] = (),
    ) -> None:
        self.workers = workers
        self.submitted: list[TrialSpec] = []
        self.asked: list[tuple[str, str | None]] = []
        self.closed = False
        self._statuses = deque(statuses)
        self._status: dict[str, int | None] = {}
        self.answers: list[str | None] = []
        self._script, self._waited = script, waited
        self._left: dict[str, tuple[TrialSpec, deque[Event]]] = {}

    def warm(self) -> None: ...

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        raise NotImplementedError(function)

    @property
    def free(self) -> int:
        return self.workers - len(self._left)

    @property
    def running(self) -> list[str]:
        return list(self._left)

    def has_begun(self, run_id: str) -> bool:
        return run_id in self._left

    def submit(self, spec: TrialSpec) -> None:
        self.submitted.append(spec)
        self._left[spec.run_id] = spec, deque(self._script(spec))
        self._status[spec.run_id] = self._statuses.popleft() if self._statuses else 0

    def wait(self, seconds: float) -> list[Message]:
        self._waited()
        messages = []
        for run_id, (spec, events) in list(self._left.items()):
            if events:
                event = events.popleft()
                log(spec.folder, [event])
                messages.append(Message(run_id, "verdict?" if isinstance(event, Report) else "events"))
            else:
                del self._left[run_id]
                messages.append(Message(run_id, "exited", self._status[run_id]))
        return messages

    def answer(self, run_id: str, stop: str | None) -> None:
        self.answers.append(stop)

    def stop(self, run_id: str, why: str) -> None:
        self.asked.append((run_id, why))
        self._left[run_id][1].clear()

    def kill(self, run_id: str) -> None:
        self.asked.append((run_id, None))
        self._left[run_id][1].clear()

    def close(self) -> None:
        self.closed = True
        self._left.clear()
