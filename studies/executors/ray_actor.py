"""What runs on a machine of a Ray cluster: a trial at a time, through the local executor of that machine.

If the actor's process ends, however it ends, its trial's connection breaks and the trial ends, too.
"""

from __future__ import annotations

import json
import time

from studies.executors.base import Message
from studies.executors.local import LocalExecutor
from studies.protocol.trial_spec import TrialSpec

TOGETHER = 0.02  # seconds that further news may take to be sent along


class TrialActor:
    """A Ray actor with two threads: one waits for news of the trial, the other passes on what the driver says."""

    def __init__(self, threads: int, plain: bool) -> None:
        self._executor = LocalExecutor(1, threads, plain)
        self._executor.warm()

    def is_there(self) -> bool:
        """Answers once Ray has found a machine for this actor."""
        return True

    def call(self, function: str, payload: str) -> str:
        """Calls `module:function` with a JSON payload; see LocalExecutor.call."""
        return json.dumps(self._executor.call(function, json.loads(payload)))

    def run(self, spec: str, seconds: float) -> list[tuple[str, int | None]]:
        """Starts the trial of a spec.json; returns its first news."""
        self._executor.submit(TrialSpec.load(spec))
        return self.news(seconds)

    def news(self, seconds: float) -> list[tuple[str, int | None]]:
        """Kinds and exit statuses of messages, as soon as there is one; empty after `seconds`."""
        found: list[Message] = []
        end = time.monotonic() + seconds
        while not found and (left := end - time.monotonic()) > 0:
            found = self._executor.wait(min(1.0, left))
        if found and found[-1].kind == "events":
            found += self._executor.wait(TOGETHER)  # often a question or the end comes right after
        return [(message.kind, message.status) for message in dict.fromkeys(found)]

    def answer(self, run_id: str, stop: str | None) -> None:
        self._executor.answer(run_id, stop)

    def stop(self, run_id: str, why: str) -> None:
        self._executor.stop(run_id, why)

    def kill(self, run_id: str) -> None:
        self._executor.kill(run_id)
