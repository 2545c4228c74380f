"""Fakes of the driver's collaborators."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from studies.executors.base import Message
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event
from studies.protocol.trial_spec import TrialSpec


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

    def _note(self, method: str, *arguments: Any) -> Any:
        self.made.append((method, *arguments))
        return self._answers.get(method)

    def check(self) -> None: ...


class _Methods:
    def __init__(self, note: Any) -> None:
        self._note = note

    def __getattr__(self, method: str) -> Any:
        return partial(self._note, method)


class Screen:
    """A display that only records lines."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.total: int | None = None

    def say(self, line: str) -> None:
        self.said.append(line)

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: None


def log(folder: str | Path, events: Sequence[Event]) -> None:
    """Writes a trial's events to its folder."""
    writer = EventWriter(Path(folder) / NAME)
    for event in events:
        writer.append(event)
    writer.close()


class FakeExecutor:
    """An executor without processes: each `wait` yields a trial's next event; it has exited after the last.

    Args:
        script: a trial's events.
        waited: called at each `wait`, before the event.
    """

    threads, gpus = 1, 0

    def __init__(
        self,
        script: Callable[[TrialSpec], Sequence[Event]],
        waited: Callable[[], None] = lambda: None,
        workers: int = 1,
    ) -> None:
        self.workers = workers
        self.submitted: list[TrialSpec] = []
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

    def wait(self, seconds: float) -> list[Message]:
        self._waited()
        messages = []
        for run_id, (spec, events) in list(self._left.items()):
            if events:
                log(spec.folder, [events.popleft()])
                messages.append(Message(run_id, "events"))
            else:
                del self._left[run_id]
                messages.append(Message(run_id, "exited", 0))
        return messages

    def answer(self, run_id: str, stop: str | None) -> None:
        self.answers.append(stop)

    def stop(self, run_id: str, why: str) -> None:
        self.kill(run_id)

    def kill(self, run_id: str) -> None:
        self._left[run_id][1].clear()

    def close(self) -> None:
        self._left.clear()
