"""The trial's append-only log of events, one JSON line each: append, tail, repair.

The log makes crashes harmless: lines written before a crash are not lost, and a torn line is recognised by its missing
newline. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from studies.protocol.events import Event, parse_event

NAME = "events.jsonl"
WAIT_SECONDS = 30.0  # for the lock of a previous process that is exiting


class EventWriter:
    """Appends events. It locks the file, so only one process can run the trial.

    Raises:
        TimeoutError: another process keeps the log locked.
    """

    def __init__(self, path: str | Path, wait: float = WAIT_SECONDS) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._appending = threading.Lock()
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when the holder dies
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._file)
                    raise TimeoutError(f"{self.path} is being written by another process") from None
                time.sleep(0.05)
        repair(self.path)
        self._size = os.fstat(self._file).st_size

    def append(self, event: Event, *, durable: bool = False) -> None:
        """Appends one event; `durable` also flushes it to disk (survives a power cut)."""
        line = left = event.to_json().encode() + b"\n"
        with self._appending:
            try:
                while left:  # after a short write (disk nearly full), continue or raise
                    left = left[os.write(self._file, left) :]
                if durable:
                    os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._size)  # a partial line would corrupt the next one
                raise
            self._size += len(line)  # tracked here, since nobody else writes

    def close(self) -> None:
        os.close(self._file)


class EventReader:
    """Reads a log that another process is writing: each call returns the complete lines since the last.

    Attributes:
        broken: lines that could not be parsed so far, for a warning; other lines are still read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.broken: list[str] = []
        self._offset = 0

    def read(self) -> list[Event]:
        """New events, oldest first; an incomplete last line is left for the next call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        events = []
        for line in data[:whole].split(b"\n")[:-1]:
            try:
                events.append(parse_event(line))
            except ValueError as error:
                self.broken.append(f"{self.path}: {error}")
        self._offset += whole
        return events


def repair(path: str | Path) -> int:
    """Truncates a torn last line (without newline); returns the number of bytes removed."""
    path = Path(path)
    if not path.exists():
        return 0
    data = path.read_bytes()
    torn = len(data) - (data.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(data) - torn)
    return torn


def is_being_written(path: str | Path) -> bool:
    """Whether a live process writes this log."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
