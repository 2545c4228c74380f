"""Starts and ends the processes of a LocalExecutor."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from studies.executors import orphans
from studies.protocol.output_log import open_output_log
from studies.protocol.trial_spec import TrialSpec

UNKNOWN = 255  # multiprocessing's exit status of a process whose server was killed
SAFE_PATH = "PYTHONSAFEPATH"
SAFE = "of the harness"  # its value if the user has not set it: the warm server unsets it (warm_server.py)


def end_process(process: BaseProcess) -> None:
    """Ends a process, if it is still running, and everything that it started."""
    if process.exitcode is None and process.pid is not None:
        orphans.end_group(process.pid)
    wait_for(process)


def wait_for(process: Any) -> int | None:
    """Waits for a process that is exiting, ends what it left behind, and returns its exit status."""
    if isinstance(process, subprocess.Popen):
        status: int | None = process.wait()
    else:
        process.join()
        status = process.exitcode
    if status == UNKNOWN:
        orphans.end_group(process.pid)
    else:
        orphans.end_rest_of_group(process.pid)
    orphans.a_trial_process_ended()
    return status


@contextlib.contextmanager
def server_environment() -> Iterator[None]:
    """Sets, within the block, the environment that only the warm server inherits."""
    # A user's folder that happens to be called studies/ or datamodules/ must not shadow ours.
    ours = {SAFE_PATH: os.environ.get(SAFE_PATH) or SAFE, orphans.DRIVER: orphans.this_driver()}
    before = {name: os.environ.get(name) for name in ours}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it must not receive Ctrl-C while importing
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def spans_processes(spec: TrialSpec) -> bool:
    """Whether Lightning will start more processes (DDP), for which it re-runs the command as a script."""
    devices = spec.experiment["trainer"].get("devices", 1)
    several = len(devices) > 1 if isinstance(devices, list) else str(devices) not in ("1", "auto")
    return several or spec.experiment["trainer"].get("num_nodes", 1) > 1


def start_script(spec: Path, connection: Connection) -> subprocess.Popen[bytes]:
    from studies.protocol.channel import DRIVER_FD

    with os.fdopen(open_output_log(spec.parent), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "studies.trial", str(spec)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[connection.fileno()],
            env={
                SAFE_PATH: SAFE,
                **os.environ,
                orphans.DRIVER: orphans.this_driver(),
                DRIVER_FD: str(connection.fileno()),
            },
            start_new_session=True,
        )
