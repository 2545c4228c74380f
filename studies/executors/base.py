"""The interface between driver and executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from studies.protocol.trial_spec import TrialSpec

Kind = Literal["events", "verdict?", "exited"]


class Message(NamedTuple):
    """A message about a trial: it has new events, waits for a verdict, or its process has exited (`status`)."""

    run_id: str
    kind: Kind
    status: int | None = None


class Executor(Protocol):
    """Runs trials. A custom class is instantiated as `Class(workers, threads)`; see docs/extending.md.

    Attributes:
        workers: number of concurrent trials, at least 1.
        threads: CPU threads of each trial.
        gpus: number of GPUs to distribute trials over; the driver sets it once known.
    """

    workers: int
    threads: int
    gpus: int

    def warm(self) -> None:
        """Starts preparing for trials, without waiting."""

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """Calls `module:function` with a JSON payload where trials run, and returns its JSON result.

        Raises:
            RuntimeError: its process died before returning.
        """

    @property
    def free(self) -> int:
        """Number of further trials that may be submitted."""
        ...

    @property
    def running(self) -> list[str]:
        """Run ids of submitted trials that were not yet reported as exited."""
        ...

    def has_begun(self, run_id: str) -> bool:
        """Whether a submitted trial has a process."""
        ...

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial. Its events go to events.jsonl in its folder, its output to artifacts/log.txt there."""

    def wait(self, seconds: float) -> list[Message]:
        """Messages of all trials, as soon as there is one; empty after the timeout."""
        ...

    def answer(self, run_id: str, stop: str | None) -> None:
        """Answers a trial that waits for a verdict: None to continue, else the reason to stop."""

    def stop(self, run_id: str, why: str) -> None:
        """Asks a trial to stop at its next step."""

    def kill(self, run_id: str) -> None:
        """Ends a trial process at once; `wait` reports it as exited."""

    def close(self) -> None:
        """Ends all trials that still run."""
