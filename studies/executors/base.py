"""What the driver needs of an executor, and what an executor tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from studies.protocol.trial_spec import TrialSpec

Kind = Literal["events", "verdict?", "exited"]


class Message(NamedTuple):
    """What a trial process wants: its new events read, a verdict, or it is gone (`status`: exit status)."""

    run_id: str
    kind: Kind
    status: int | None = None


class Executor(Protocol):
    """Where trials run. A class of your own is made as `Class(workers, threads)`; see docs/extending.md.

    Attributes:
        workers: how many trials run at once, from 1.
        threads: CPU threads of each trial.
        gpus: GPUs among which trials are shared out; the driver sets it once it knows.
    """

    workers: int
    threads: int
    gpus: int

    def warm(self) -> None:
        """Begins to prepare for trials, without waiting."""

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """Calls `module:function` with a JSON payload where trials run, and returns its JSON result.

        Raises:
            RuntimeError: if its process died before it answered.
        """

    @property
    def free(self) -> int:
        """How many more trials may be submitted."""
        ...

    @property
    def running(self) -> list[str]:
        """Run ids of trials that were submitted and have not been reported as exited."""
        ...

    def has_begun(self, run_id: str) -> bool:
        """Whether a trial that was submitted has a process."""
        ...

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial. Its events are appended to events.jsonl in its folder, its output to log.txt there."""

    def wait(self, seconds: float) -> list[Message]:
        """Messages of all trials, as soon as there is one, or nothing after some seconds."""
        ...

    def answer(self, run_id: str, stop: str | None) -> None:
        """Answers a trial that waits for a verdict: None lets it go on, else the reason to stop."""

    def stop(self, run_id: str, why: str) -> None:
        """Asks a trial to stop at its next step."""

    def kill(self, run_id: str) -> None:
        """Ends a trial process at once; `wait` reports it as exited."""

    def close(self) -> None:
        """Ends what still runs."""
