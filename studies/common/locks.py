"""Locks between processes of one machine: files held by flock, which the kernel lets go when a holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Waits for a lock file and holds it: what is made inside is made by one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Lease:
    """The right to drive a study. One process has it; that it is held says its holder is alive.

    Args:
        path: the lease's file. It says who holds it: host, pid, since when.

    Raises:
        ValueError: from `take`, if another process holds it; the message names that process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def take(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode(errors="replace")
            os.close(file)
            try:
                fields = json.loads(holder)
                who = f"process {fields['pid']} on {fields['host']}"
            except (ValueError, KeyError, TypeError):
                who = "another process"
            raise ValueError(f"study {self.path.stem} is being run by {who}: wait for it or stop it") from None
        os.ftruncate(file, 0)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        os.pwrite(file, holder.encode(), 0)
        self._file = file

    @property
    def is_held(self) -> bool:
        """Whether some process has it now."""
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
    """A name of this process that no later one on any machine will have: host, number, start time."""
    return f"{socket.gethostname()} {os.getpid()} {_start_time(os.getpid())}"


def may_live(process: str) -> bool:
    """Whether the process of such a name may be running: if it is on another machine, nobody here can say."""
    try:
        host, pid, started = process.split()
    except ValueError:  # somebody edited it
        return False
    return host != socket.gethostname() or _start_time(pid) == started


def _start_time(pid: int | str) -> str | None:
    """When a process started, in clock ticks since the machine did; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
