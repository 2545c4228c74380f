"""The processes of LocalExecutor: they run trials, sequentially or several at once, or answer a call.

Since they run user code, they behave like ordinary processes: they may have children of any kind, signals have Python's
default handlers, standard output accepts any text, and atexit handlers are called.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from studies.common.plain import acceleration
from studies.common.regular_files import open_to_append
from studies.common.text import clean_json
from studies.executors import orphans
from studies.protocol.channel import Channel, end_in_time
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.output_log import open_output_log
from studies.protocol.trial_spec import TrialSpec


def warm_up() -> None:
    """Imports what trials use in the warm server, from which they are forked."""
    from studies.trial import preflight, run, surroundings  # noqa: F401

    surroundings.warm_up()
    accelerated = acceleration()
    if accelerated is not None:
        accelerated.warm_up()


def run_trials(spec: TrialSpec, connection: Connection, plain: bool) -> None:
    """Runs a trial, then those that the driver sends, as long as each leaves the process clean."""
    from studies.trial import run as trial

    _become_a_users_own()
    accelerated = None if plain else acceleration()
    parts = None if accelerated is None else accelerated.for_trial()
    baseline = parts.new_baseline() if parts and parts.new_baseline else None
    if parts and parts.keep_memory:
        parts.keep_memory()
    while True:
        _prepare(spec)
        channel = Channel(EventWriter(Path(spec.folder) / NAME), connection)
        status = trial.run(spec, channel, parts.prepare_trainer if parts else None)
        if status or baseline is None or not baseline.is_clean(spec, channel.ending):
            _end(status)
        channel.leave(status)
        baseline.wipe()
        path = channel.next()
        if path is None:
            _end(0)
        spec = TrialSpec.load(path)


def run_pack(specs: list[TrialSpec], connections: list[Connection]) -> None:
    """Runs several trials at once."""
    _become_a_users_own()
    _prepare(specs[0])
    accelerated = acceleration()
    assert accelerated is not None, "packing needs acceleration"
    logs = [EventWriter(Path(spec.folder) / NAME) for spec in specs]
    channels = [Channel(log, connection) for log, connection in zip(logs, connections, strict=True)]
    # On the main thread, each trial's Trainer would restore the signal handlers set by another's.
    thread = threading.Thread(target=accelerated.for_trial().run_packed, args=(specs, channels), name="pack")
    thread.start()
    thread.join()
    _end(0)


def answer_call(function: str, payload: str, connection: Connection, log: str) -> None:
    """Calls `module:function` and sends its result; see LocalExecutor.call."""
    _become_a_users_own()
    _redirect_output(open_to_append(log))
    import importlib

    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(json.loads(payload))
    connection.send_bytes(clean_json(result).encode())


def _become_a_users_own() -> None:
    """Undoes the ways in which multiprocessing and the warm server differ from an ordinary process."""
    os.setsid()  # Ctrl-C in the terminal only reaches the driver, and all descendants can be ended together
    os.environ[orphans.TRIAL] = str(os.getpid())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method(None, force=True)  # DataLoader workers are forked here, not from the warm server
    multiprocessing.current_process().name = "MainProcess"
    atexit._clear()  # the server's own
    atexit.register(logging.shutdown)


def _end(status: int) -> NoReturn:
    """Exits as Python does, within a few seconds."""
    end_in_time()
    atexit._run_exitfuncs()  # multiprocessing skips them
    sys.exit(status)


def _prepare(spec: TrialSpec) -> None:
    _redirect_output(open_output_log(spec.folder))
    if spec.gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[spec.gpu] if visible else str(spec.gpu)


def _redirect_output(descriptor: int) -> None:
    """Redirects this process's output, including that of C libraries and children, to a file, and closes it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # missing or closed
            stream.flush()
    with os.fdopen(descriptor, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # An earlier trial may have closed or replaced them. Printed file names may not be valid text.
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
