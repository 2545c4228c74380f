"""Child processes of various kinds, as user code may start them in a trial process. Standard library only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SLEEP = ["sleep", "300"]


def start_children(file: str, apart: bool = True) -> None:
    """Starts children that would run for minutes; writes this process's and their pids to the file.

    Args:
        apart: one of them gets its own session.
    """
    children = [
        subprocess.Popen(SLEEP).pid,
        subprocess.Popen(["sh", "-c", "sleep 300 & wait"]).pid,
        subprocess.Popen(SLEEP, start_new_session=apart).pid,
        _forked(daemon=True),
        _forked(daemon=False),
    ]
    numbers = " ".join(str(pid) for pid in [os.getpid(), *children])
    Path(f"{file}.part").write_text(numbers)
    Path(f"{file}.part").rename(file)


def _forked(daemon: bool) -> int:
    process = multiprocessing.Process(target=lambda: time.sleep(300), daemon=daemon)  # a lambda only works with fork
    process.start()
    assert process.pid is not None
    return process.pid


def start_children_and_stay(file: str, apart: bool = True) -> None:
    start_children(file, apart)
    time.sleep(300)


def start_children_and(payload: dict[str, Any]) -> str:
    start_children(payload["file"])
    if payload["then"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def circumstances(payload: None) -> dict[str, Any]:
    """Properties of an ordinary user process."""
    print("b\udce4r", flush=True)  # a lone surrogate, as in an undecodable file name
    return {
        "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "start method": multiprocessing.get_start_method(),
        "daemon": multiprocessing.current_process().daemon,
        "name": multiprocessing.current_process().name,
        "leads its group": os.getpgrp() == os.getpid() == os.getsid(0),
        "safe path": os.environ.get("PYTHONSAFEPATH"),
        "folder": os.getcwd(),
        "input": sys.stdin.read(),
        "not quite text": "b\udce4r\0",
    }
