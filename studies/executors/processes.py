"""What the processes of LocalExecutor do: run trials, one after the other or several at once, or answer a call."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from studies.event_log import NAME, EventWriter
from studies.link import Link
from studies.messages import TrialSpec
from studies.plain import is_plain


def run_trials(spec: TrialSpec, connection: Connection) -> None:
    """Runs a trial, and then those that the driver sends, as long as each leaves the process as it found it."""
    from studies import trial
    from studies.executors.slate import Slate

    _leave_interrupts_to_the_driver()
    slate = Slate()
    while True:
        _prepare(spec)
        link = Link(EventWriter(Path(spec.folder) / NAME), connection)
        status = trial.run(spec, link)
        if status or is_plain() or not slate.is_clean(spec, link.ending):
            sys.exit(status)
        link.leave(status)
        slate.wipe()
        path = link.next()
        if path is None:
            sys.exit(0)
        spec = TrialSpec.load(path)


def run_pack(specs: list[TrialSpec], connections: list[Connection]) -> None:
    """Runs several trials at once."""
    _leave_interrupts_to_the_driver()
    _prepare(specs[0])
    from studies.pack import Pack

    logs = [EventWriter(Path(spec.folder) / NAME) for spec in specs]
    pack = Pack(specs, [Link(log, connection) for log, connection in zip(logs, connections, strict=True)])
    # On the main thread each trial's Trainer would put back the signal handlers that another's had set.
    thread = threading.Thread(target=pack.run, name="pack")
    thread.start()
    thread.join()


def _leave_interrupts_to_the_driver() -> None:
    """Ctrl-C in the terminal is heard by all its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare(spec: TrialSpec) -> None:
    _redirect_output(Path(spec.folder) / "log.txt")
    if spec.gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[spec.gpu] if visible else str(spec.gpu)


def answer_call(function: str, payload: str, connection: Connection, log: str) -> None:
    """Calls `module:function` and sends what it returns; see LocalExecutor.call."""
    _leave_interrupts_to_the_driver()
    _redirect_output(Path(log))
    import importlib

    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(json.loads(payload))
    connection.send_bytes(json.dumps(result).encode())


def _redirect_output(path: Path) -> None:
    """Sends this process's output, that of C libraries too, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
