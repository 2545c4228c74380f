"""Runs trials on a Ray cluster: as many as fit, placed by Ray, each in an actor with a warm server of its own.

What Ray does: finding machines with free CPUs and GPUs, starting actors there, noticing that a machine is gone, scaling
the cluster. What a trial is stays the same: an actor runs it through the local executor of its machine, so its values
are those of a local study, to the bit, and only events, verdicts and requests to stop travel through Ray. An actor runs
one trial after another, so that a trial starts as fast as locally.

All machines see the state folder at the same path. A trial whose machine is gone is reported as exited; the driver then
submits it again, and it goes on elsewhere from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studies.common.errors import in_one_line
from studies.executors.base import Message
from studies.protocol.trial_spec import TrialSpec

POLL_SECONDS = 30.0  # that an actor waits for news of its trial before it answers "none"
START_SECONDS = 120.0  # without a machine that has room, after which the user is told what is missing
WAITING_AT_MOST = 2  # trials that wait for room, so that an autoscaler sees that more is wanted
GONE = 1  # exit status of a trial whose machine is gone


class RayExecutor:
    """Trial processes on the machines of a Ray cluster.

    Args:
        workers: number of concurrent trials; 0: as many as the cluster has room for, which may change.
        threads: threads per trial; 0: as many as it has CPUs, at least 1.
        plain: disable acceleration.
        address: of the cluster: "auto" for the one that runs on this machine, or HOST:PORT; None is $RAY_ADDRESS, else
            a cluster of this machine alone that ends with the study.
        cpus: CPUs of each trial, > 0.
        gpus: GPUs of each trial, >= 0; a fraction shares one among trials.

    Raises:
        ValueError: an argument is outside its range, Ray is not installed, or there is no cluster at the address.
    """

    accelerates = True

    def __init__(
        self,
        workers: int = 0,
        threads: int = 0,
        plain: bool = False,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        for name, value, enough in (("cpus", cpus, cpus > 0), ("gpus", gpus, gpus >= 0)):
            if not (math.isfinite(value) and enough):
                raise ValueError(f"{name}-per-trial must be {'above' if name == 'cpus' else 'at least'} 0, not {value}")
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus-per-trial above 1 must be a whole number, not {gpus}")
        self.workers = workers
        self.threads = threads or max(1, int(cpus))
        self.plain = plain
        self.gpus = 0  # each actor sees its own alone, by CUDA_VISIBLE_DEVICES
        self._wanted = {"num_cpus": cpus, "num_gpus": gpus}
        self._address = address
        self._ray = _ray()
        self._waiting: list[TrialSpec] = []  # for an actor
        self._running: dict[str, _Slot] = {}
        self._idle: list[_Slot] = []
        self._unplaced: list[_Slot] = []  # for which Ray has found no machine yet
        self._ended: list[Message] = []

    def warm(self) -> None:
        """Connects to the cluster and asks for a first actor, which imports in the background."""
        self._connect()
        if not self._idle and not self._running and not self._unplaced:
            self._unplaced.append(self._new_slot())

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self._address or os.environ.get("RAY_ADDRESS")
        try:
            if address is not None:
                self._ray.init(address=address, **quiet)
            else:
                self._ray.init(address="local", include_dashboard=False, **quiet)
        except Exception as error:  # ConnectionError, RuntimeError, and others of its libraries
            where = f"the Ray cluster {address!r}" if address else "a Ray cluster on this machine"
            raise ValueError(f"cannot connect to {where}: {in_one_line(error)}") from error

    def _new_slot(self) -> _Slot:
        from studies.executors.ray_actor import TrialActor

        ours = {name: value for name, value in os.environ.items() if name.startswith("HARNESS_")}  # e.g. HARNESS_DATA
        options = {**self._wanted, "max_concurrency": 2, "max_restarts": 0, "runtime_env": {"env_vars": ours}}
        remote = self._ray.remote(TrialActor).options(**options)
        actor = remote.remote(self.threads, self.plain)
        return _Slot(actor, actor.is_there.remote(), time.monotonic())

    @property
    def free(self) -> int:
        """Number of further trials that may be submitted: up to the given number, or until some wait for room."""
        if self.workers:
            return max(0, self.workers - len(self.running))
        return max(0, WAITING_AT_MOST - len(self._waiting))

    @property
    def running(self) -> list[str]:
        return [*self._running, *(spec.run_id for spec in self._waiting)]

    def has_begun(self, run_id: str) -> bool:
        """Whether a submitted trial has a machine."""
        return run_id in self._running

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """Calls `module:function` with a JSON payload on a machine of the cluster and returns its JSON result.

        Raises:
            RuntimeError: its process died before returning, or the cluster has no machine that is large enough.
        """
        for attempt in (1, 2):  # the machine of an idle actor may be gone
            free = self._idle or self._unplaced
            slot = free.pop() if free and attempt == 1 else self._new_slot()
            result = slot.actor.call.remote(function, json.dumps(payload))
            while not self._ray.wait([result], timeout=0.25)[0]:
                if while_waiting is not None:
                    while_waiting()
                self._complain(slot)
            try:
                answer = json.loads(self._ray.get(result))
            except self._ray.exceptions.RayTaskError as error:
                raise RuntimeError(str(error.cause)) from None
            except self._ray.exceptions.RayError as error:
                died = in_one_line(error)
            else:
                self._idle.append(slot)
                return answer
        raise RuntimeError(f"{function} died on its machine: {died}")

    def _complain(self, slot: _Slot) -> None:
        """Raises if no machine of the cluster, however busy, could hold a trial; a busy cluster is waited for."""
        if time.monotonic() - slot.asked < START_SECONDS or self._ray.wait([slot.there], timeout=0)[0]:
            return
        largest = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus, gpus = self._wanted["num_cpus"], self._wanted["num_gpus"]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in largest):
            have = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in largest)
            wanted = f"{cpus:g} CPUs and {gpus:g} GPUs for a trial"
            raise RuntimeError(f"no machine of the Ray cluster has {wanted}; it has {have or 'none'}")

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial on a machine with room, now or when there is one."""
        self._waiting.append(dataclasses.replace(spec, threads=self.threads, gpu=None))
        self._begin()

    def _begin(self) -> None:
        """Gives waiting trials to actors that are idle, oldest first, and asks Ray for as many as are missing."""
        if self._unplaced:
            theres = {slot.there: slot for slot in self._unplaced}
            placed = [theres[there] for there in self._ray.wait(list(theres), num_returns=len(theres), timeout=0)[0]]
            self._idle += placed
            self._unplaced = [slot for slot in self._unplaced if slot not in placed]
        while self._waiting and self._idle:
            spec, slot = self._waiting.pop(0), self._idle.pop()
            slot.news = slot.actor.run.remote(str(spec.save()), POLL_SECONDS)
            self._running[spec.run_id] = slot
        while len(self._unplaced) < len(self._waiting):
            self._unplaced.append(self._new_slot())

    def wait(self, seconds: float) -> list[Message]:
        """Messages of all trials, as soon as there is one; empty after the timeout."""
        messages, self._ended = self._ended, []
        self._begin()
        names = {slot.news: run_id for run_id, slot in self._running.items()}
        if not names:
            if self._unplaced and not messages:
                self._ray.wait([slot.there for slot in self._unplaced], timeout=seconds)
            return messages
        ready, _ = self._ray.wait(list(names), num_returns=1, timeout=0.0 if messages else seconds)
        if ready:  # the others that are
            ready, _ = self._ray.wait(list(names), num_returns=len(names), timeout=0)
        for news in ready:
            messages += self._news(names[news])
        return messages

    def _news(self, run_id: str) -> list[Message]:
        slot = self._running[run_id]
        try:
            said = self._ray.get(slot.news)
        except self._ray.exceptions.RayError:  # its machine is gone, or its actor was killed
            del self._running[run_id]
            return [Message(run_id, "exited", GONE)]
        messages = [Message(run_id, kind, status) for kind, status in said]
        if messages and messages[-1].kind == "exited":
            del self._running[run_id]
            self._idle.append(slot)
        else:
            slot.news = slot.actor.news.remote(POLL_SECONDS)
        return messages

    def answer(self, run_id: str, stop: str | None) -> None:
        """Answers a trial that waits for a verdict: None to continue, else the reason to stop."""
        if run_id in self._running:
            self._running[run_id].actor.answer.remote(run_id, stop)

    def stop(self, run_id: str, why: str) -> None:
        """Asks a trial to stop at its next step."""
        if run_id in self._running:
            self._running[run_id].actor.stop.remote(run_id, why)
        self._drop(run_id)

    def kill(self, run_id: str) -> None:
        """Ends a trial process at once; `wait` reports it as exited."""
        if run_id in self._running:
            self._running[run_id].actor.kill.remote(run_id)
        self._drop(run_id)

    def _drop(self, run_id: str) -> None:
        """Ends a trial that waits for room."""
        left = [spec for spec in self._waiting if spec.run_id != run_id]
        self._ended += [Message(run_id, "exited")] * (len(self._waiting) - len(left))
        self._waiting = left

    def close(self) -> None:
        """Ends all trials that still run, and returns their room to the cluster, but for an actor that is idle.

        That one is there for further calls, and ends with this process.
        """
        kept = self._idle[:1]
        for slot in [*self._running.values(), *self._idle[1:], *self._unplaced]:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(slot.actor)
        self._waiting.clear()
        self._running.clear()
        self._idle, self._unplaced = kept, []


@dataclass
class _Slot:
    """An actor.

    Attributes:
        there: Ray's reference that is ready once the actor has a machine.
        asked: time.monotonic() of its creation.
        news: Ray's reference to the messages of its trial.
    """

    actor: Any
    there: Any
    asked: float
    news: Any = None


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ValueError('--executor ray needs the package ray: pip install "studies-harness[ray]"') from error
    return ray
