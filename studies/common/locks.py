"""Locks between processes of one machine: files held by flock, which the kernel releases when the holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Waits for a lock file and holds it: a critical section between processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Lease:
    """The right to drive a study. At most one process holds it, and only while it is alive.

    Args:
        path: the lease file. It contains the holder's host, pid and start time, and what it has noted; it stays when
            the lease is released.

    Raises:
        ValueError: from `take`: another process holds it; the message names that process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._fields: dict[str, Any] = {}

    def take(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 100_000).decode(errors="replace")
            os.close(file)
            try:
                fields = json.loads(holder)
                who = f"process {fields['pid']} on {fields['host']}"
            except (ValueError, KeyError, TypeError):
                who = "another process"
            raise ValueError(f"study {self.path.stem} is being run by {who}: wait for it or stop it") from None
        self._file = file
        self._fields = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        self.note(process=this_process())

    def note(self, **fields: Any) -> None:
        """Adds to what the file says about the holder and its work, for `harness watch`; if the lease is held."""
        if self._file is not None:
            self._fields |= fields
            content = json.dumps(self._fields).encode()
            os.pwrite(self._file, content, 0)
            os.ftruncate(self._file, len(content))

    @property
    def is_held(self) -> bool:
        """Whether some process holds it now."""
        if not self.path.exists():
            return False
        with open(self.path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def this_process() -> str:
    """A unique name of this process across machines and time: host, pid, start time."""
    return f"{socket.gethostname()} {os.getpid()} {_start_time(os.getpid())}"


def may_live(process: str) -> bool:
    """Whether the process of such a name may be running; True for another machine, which cannot be checked."""
    try:
        host, pid, started = process.split()
    except ValueError:  # edited by hand
        return False
    return host != socket.gethostname() or (pid.isdigit() and _start_time(pid) == started)


def _start_time(pid: int | str) -> str | None:
    """A process's start time in clock ticks since boot; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
