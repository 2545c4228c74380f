"""The trial's append-only log of events, one JSON line each: append, tail, repair.

The log makes crashes harmless: lines written before a crash are not lost, and a torn line is recognised by its missing
newline. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

from studies.common.regular_files import open_regular, open_to_append
from studies.protocol.events import Event, parse_event

NAME = "events.jsonl"
WAIT_SECONDS = 30.0  # for the lock of a previous process that is exiting


class EventWriter:
    """Appends events. It locks the file, so only one process can run the trial.

    Raises:
        TimeoutError: another process keeps the log locked.
        OSError: it is a link or no regular file, or cannot be written.
    """

    def __init__(self, path: str | Path, wait: float = WAIT_SECONDS) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_to_append(self.path)
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
            with open_regular(self.path) as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.broken = [f"{self.path}: {error.strerror}"]
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
    try:
        with open_regular(path) as file:
            data = file.read()
    except FileNotFoundError:
        return 0
    torn = len(data) - (data.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(data) - torn)
    return torn


def is_being_written(path: str | Path) -> bool:
    """Whether a live process writes this log."""
    try:
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is none
        return False
    return False
