"""Runs trials on this machine, in processes forked from a warm server that has torch and Lightning loaded.

A fork from the server takes about 20 ms; the imports take seconds, once, while the driver does other things. Nothing
leaks from one trial into the next: a process is reused only if that is known to be safe (process_reuse.py), and a crash
affects one trial. The server is Python's own multiprocessing forkserver.

Trial processes may have children, so they are not daemonic, and each leads a process group that is ended with it; see
studies/executors/orphans.py.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import tempfile
import time
import weakref
from collections.abc import Callable
from multiprocessing import connection as mp_connection
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from studies.executors import orphans
from studies.executors.base import Message
from studies.executors.pack_groups import kind_of
from studies.executors.processes import (
    UNKNOWN,
    end_process,
    server_environment,
    spans_processes,
    start_script,
    wait_for,
)
from studies.executors.worker import answer_call, run_pack, run_trials
from studies.protocol.channel import ASK, EXIT, GO, NEXT, STOP
from studies.protocol.trial_spec import TrialSpec

ATTEMPTS = 3  # at a call whose process is killed from outside
PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds between attempts to start a process
LOOK_SECONDS = 0.25  # between checks for exited processes
# Imports of the warm server: the modules of shipped experiments, and the command's, since a child imports its parent's
# main script.
PRELOAD = ["lightning_modules", "datamodules", "studies.cli.main", "studies.executors.warm_server"]


class LocalExecutor:
    """Trial processes on this machine.

    Args:
        workers: number of concurrent trials, at least 1, which share the machine's cores.
        threads: threads per trial; 0: an equal share of the cores.
        plain: disable acceleration.
    """

    accelerates = True  # its trials use acceleration where there is any

    def __init__(self, workers: int = 1, threads: int = 0, plain: bool = False) -> None:
        self.workers = workers
        self.plain = plain
        self.threads = threads or max(1, len(os.sched_getaffinity(0)) // workers)
        self.gpus = 0
        self.pack = 1  # trials that one process (slot) may run at once
        self.packable_hyperparameters: list[str] = []  # model parameters in which packed trials may differ
        self._waiting: list[TrialSpec] = []  # for a slot and for trials to pack with
        self._dropped: list[str] = []  # stopped while waiting
        self._apart: set[str] = set()  # died in a pack, so they run unpacked from now on
        self._context = multiprocessing.get_context("forkserver")
        self._trials: dict[str, _Trial] = {}
        self._idle: dict[int, _Trial] = {}  # slot -> its idle process, whose last trial has ended
        self._looked = time.monotonic()
        _EXECUTORS.add(self)

    def warm(self) -> None:
        """Starts the server, which imports in the background."""
        orphans.end_leftovers()
        self._ensure_server()

    def _ensure_server(self) -> None:
        self._context.set_forkserver_preload(PRELOAD)
        orphans.watch()
        resource_tracker.ensure_running()  # it cleans up after killed processes, so it must outlive them
        with server_environment():
            forkserver.ensure_running()

    @property
    def free(self) -> int:
        """Number of further trials that may be submitted. A slot with a running pack counts as full."""
        slots = self.workers - len({trial.slot for trial in self._trials.values()})
        return max(0, slots * self.pack - len(self._waiting))

    @property
    def running(self) -> list[str]:
        return [*self._trials, *(spec.run_id for spec in self._waiting)]

    def has_begun(self, run_id: str) -> bool:
        """Whether a submitted trial has a process."""
        return run_id in self._trials

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """Calls `module:function` with a JSON payload in a warm process of its own and returns its JSON result.

        A call whose process is killed from outside is repeated, so it must be idempotent.

        Raises:
            RuntimeError: the process died before returning.
        """
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(_Killed):
                return self._call_once(function, payload, while_waiting)
        return self._call_once(function, payload, while_waiting)

    def _call_once(
        self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None
    ) -> Any:
        ours, theirs = self._context.Pipe()
        with tempfile.TemporaryDirectory(prefix="harness-call-") as folder:
            log = Path(folder) / "log.txt"
            process = self._start(answer_call, function, json.dumps(payload), theirs, str(log))
            theirs.close()
            try:
                while not ours.poll(LOOK_SECONDS):
                    if while_waiting is not None:
                        while_waiting()
                    # Forked children keep its connection open.
                    if not orphans.is_running(process.pid or 0) and not ours.poll():
                        raise EOFError
                return json.loads(ours.recv_bytes())
            except EOFError:
                ended = wait_for(process)
                said = log.read_text(errors="replace").strip()[-2000:] if log.exists() else ""
                text = f"{function} died (exit status {ended}) {said}"
                raise (_Killed(text) if ended in (-signal.SIGKILL, UNKNOWN) else RuntimeError(text)) from None
            finally:
                ours.close()
                end_process(process)

    def _start(self, target: Callable[..., None], *arguments: Any) -> BaseProcess:
        """Forks a process from the warm server; if that was killed, from a new one, which has to import first.

        A server that was just killed refuses connections for a while before it counts as dead, while its memory is
        freed.
        """
        for pause in (*PAUSES, None):
            process = self._context.Process(target=target, args=arguments, daemon=False)  # type: ignore[attr-defined]
            try:
                self._ensure_server()
                process.start()
            except (OSError, EOFError):
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                return process
        raise AssertionError

    def submit(self, spec: TrialSpec) -> None:
        """Starts a trial. Its events go to events.jsonl in its folder, its output to artifacts/log.txt there.

        With packing, it starts at the next `wait`, together with others of its kind.
        """
        self._waiting.append(spec)
        if self.pack == 1:
            self._begin()

    def _begin(self) -> None:
        """Starts waiting trials while there are free slots: oldest first, each with others of its kind."""
        while self._waiting:
            taken = {trial.slot for trial in self._trials.values()}
            slot = next((slot for slot in range(self.workers) if slot not in taken), None)
            if slot is None:
                return
            kind = self._kind(self._waiting[0])
            specs = [spec for spec in self._waiting if self._kind(spec) == kind][: self.pack]
            begun = {spec.run_id for spec in specs}
            self._waiting = [spec for spec in self._waiting if spec.run_id not in begun]
            gpu = slot % self.gpus if self.gpus and not spans_processes(specs[0]) else None
            specs = [dataclasses.replace(spec, threads=self.threads, gpu=gpu) for spec in specs]
            self._start_trials(slot, specs)

    def _kind(self, spec: TrialSpec) -> str:
        if self.pack == 1 or spec.run_id in self._apart or spans_processes(spec):
            return spec.run_id
        return kind_of(spec, self.packable_hyperparameters)

    def _start_trials(self, slot: int, specs: list[TrialSpec]) -> None:
        paths = [spec.save() for spec in specs]
        idle = self._idle.pop(slot, None)
        if idle is not None and len(specs) == 1 and not spans_processes(specs[0]):
            with contextlib.suppress(OSError):  # the process is gone: fork a new one
                idle.connection.send_bytes(NEXT + str(paths[0]).encode())
                self._trials[specs[0].run_id] = idle
                return
        if idle is not None:
            idle.end()
        pipes = [self._context.Pipe() for _ in specs]
        theirs = [pipe[1] for pipe in pipes]
        if len(specs) > 1:
            process: Any = self._start(run_pack, specs, theirs)
        elif spans_processes(specs[0]):
            process = start_script(paths[0], theirs[0])
        else:
            process = self._start(run_trials, specs[0], theirs[0], self.plain)
        for spec, (ours, other) in zip(specs, pipes, strict=True):
            other.close()
            self._trials[spec.run_id] = _Trial(slot, ours, process, len(specs) > 1)

    def wait(self, seconds: float) -> list[Message]:
        """Messages of all trials, as soon as there is one; empty after the timeout."""
        messages = [Message(run_id, "exited") for run_id in self._dropped]
        self._dropped.clear()
        self._begin()
        lines = {trial.connection: run_id for run_id, trial in self._trials.items()}
        for line in mp_connection.wait(list(lines), 0.0 if messages else seconds):
            assert isinstance(line, Connection)
            run_id = lines[line]
            try:
                said = line.recv_bytes()
            except (EOFError, OSError):  # the other end closed: the process is gone
                messages.append(Message(run_id, "exited", self._died(run_id)))
                continue
            if said.startswith(EXIT):
                if self._trials[run_id].packed:
                    self._reap(run_id)
                else:
                    trial = self._trials.pop(run_id)
                    self._idle[trial.slot] = trial
                messages.append(Message(run_id, "exited", int(said[len(EXIT) :])))
            else:
                messages.append(Message(run_id, "verdict?" if said == ASK else "events"))
        return messages or self._gone()

    def _gone(self) -> list[Message]:
        """Trials whose process is gone although forked children keep its connection open."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        gone = [run_id for run_id, trial in self._trials.items() if not orphans.is_running(trial.process.pid)]
        return [Message(run_id, "exited", self._died(run_id)) for run_id in gone]

    def answer(self, run_id: str, stop: str | None) -> None:
        """Answers a trial that waits for a verdict: None to continue, else the reason to stop."""
        self._send(run_id, GO if stop is None else STOP + stop.encode())

    def stop(self, run_id: str, why: str) -> None:
        """Asks a trial to stop at its next step."""
        if not self.has_begun(run_id):
            self._drop(run_id)
        self._send(run_id, STOP + why.encode())

    def kill(self, run_id: str) -> None:
        """Kills a trial process and all trials that it runs; `wait` reports them as exited."""
        if not self.has_begun(run_id):
            self._drop(run_id)
            return
        orphans.end_group(self._trials[run_id].process.pid)

    def close(self) -> None:
        """Kills all trials that still run."""
        self._waiting.clear()
        for run_id in self.running:
            self.kill(run_id)
            self._reap(run_id)
        for idle in self._idle.values():
            idle.end()
        self._idle.clear()

    def _send(self, run_id: str, message: bytes) -> None:
        with contextlib.suppress(OSError, KeyError):  # already gone: `wait` reports it
            self._trials[run_id].connection.send_bytes(message)

    def _drop(self, run_id: str) -> None:
        """Stops a trial that has not started."""
        left = [spec for spec in self._waiting if spec.run_id != run_id]
        self._dropped += [run_id] * (len(self._waiting) - len(left))
        self._waiting = left

    def _died(self, run_id: str) -> int | None:
        """The exit status of a process that is gone; None if it ran a pack: any of its trials may be the cause."""
        packed = self._trials[run_id].packed
        status = self._reap(run_id)
        if packed:
            self._apart.add(run_id)
        return None if packed else status

    def _reap(self, run_id: str) -> int | None:
        trial = self._trials.pop(run_id)
        trial.connection.close()
        if any(other.process is trial.process for other in self._trials.values()):
            return None  # it runs other trials
        return wait_for(trial.process)


class _Killed(RuntimeError):
    """The process of a call was killed from outside."""


class _Trial(NamedTuple):
    slot: int
    connection: Connection
    process: Any
    packed: bool  # whether it shares its process with others

    def end(self) -> None:
        """Ends an idle process."""
        self.connection.close()
        end_process(self.process)


_EXECUTORS: weakref.WeakSet[LocalExecutor] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends trials of unclosed executors: multiprocessing's exit handler, which runs next, would wait for them."""
    for executor in list(_EXECUTORS):
        executor.close()
