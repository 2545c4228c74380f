"""Runs trials in the driver's process, one at a time: for debuggers, profilers and breakpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studies.common import lightning_alias
from studies.common.text import clean_json
from studies.executors.base import Message
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event
from studies.protocol.trial_spec import TrialSpec


class InlineExecutor:
    """The interface of LocalExecutor. A trial runs inside `wait`, which passes its messages to `handler`."""

    def __init__(self, workers: int = 1, threads: int = 0) -> None:
        if workers != 1:
            raise ValueError(f"workers must be 1 with the inline executor, but got {workers=}")
        self.workers = 1
        self.threads = threads or len(os.sched_getaffinity(0))  # as in the local executor: results depend on it
        self.gpus = 0
        self.handler: Callable[[Message], None] = lambda message: None
        self._spec: TrialSpec | None = None
        self._channel: _InlineChannel | None = None
        lightning_alias.install()

    def warm(self) -> None:
        """No-op: this process imports what it needs."""

    @property
    def free(self) -> int:
        return 0 if self._spec else 1

    @property
    def running(self) -> list[str]:
        return [self._spec.run_id] if self._spec else []

    def has_begun(self, run_id: str) -> bool:
        return True

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        module, _, name = function.partition(":")
        with _kept():
            result = getattr(importlib.import_module(module), name)(json.loads(json.dumps(payload)))
        return json.loads(clean_json(result))

    def submit(self, spec: TrialSpec) -> None:
        path = dataclasses.replace(spec, threads=self.threads).save()
        self._spec = TrialSpec.load(path)  # as a separate process would read it

    def wait(self, seconds: float) -> list[Message]:
        if self._spec is None:
            return []
        from studies.trial import run as trial

        spec, log = self._spec, EventWriter(Path(self._spec.folder) / NAME)
        self._channel = _InlineChannel(log, lambda kind: self.handler(Message(spec.run_id, kind)))  # type: ignore[arg-type]
        with _kept():
            status = trial.run(spec, self._channel)
        log.close()
        self._spec = self._channel = None
        return [Message(spec.run_id, "exited", status)]

    def answer(self, run_id: str, stop: str | None) -> None:
        if self._channel is not None and stop is not None:
            self._channel.stop_reason = stop

    stop = answer

    def kill(self, run_id: str) -> None:
        self.answer(run_id, "interrupted")  # it is this process, so it can only be asked to stop

    def close(self) -> None:
        self._spec = None


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Restores what user code may have changed and the driver, which is this process, needs."""
    streams = sys.stdout, sys.stderr
    try:
        with contextlib.chdir("."):
            yield
    finally:
        sys.stdout, sys.stderr = streams


class _InlineChannel(Channel):
    """A channel within one process: calls the driver's handler instead of sending messages."""

    def __init__(self, log: EventWriter, handler: Callable[[str], None]) -> None:
        super().__init__(log)
        self._handler = handler

    def ask(self, event: Event) -> str | None:
        self.emit(event, ask=True)
        return self.stop_reason

    def emit(self, event: Event, *, durable: bool = False, ask: bool = False) -> None:
        super().emit(event, durable=durable)
        self._handler("verdict?" if ask else "events")
