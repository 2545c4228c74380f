"""The trial's append-only log of events, one JSON line each: append, tail, repair.

The log is what makes a crash harmless: a line written before it is not lost, and a line torn by it is
recognised by its missing newline. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

from studies.messages import Event, parse_event

NAME = "events.jsonl"


class EventWriter:
    """Appends events; each is one write() to a file opened with O_APPEND, so lines never mix."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        repair(self.path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def append(self, event: Event, *, durable: bool = False) -> None:
        """Appends one event; `durable` also waits until the disk has it (survives a power cut)."""
        line = event.to_json().encode() + b"\n"
        while line:  # a short write (a disk that fills up) goes on or raises, it never passes silently
            line = line[os.write(self._file, line) :]
        if durable:
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


class EventReader:
    """Reads a log that another process is writing: each call returns the complete lines since the last."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._offset = 0

    def read(self) -> list[Event]:
        """New events, oldest first; a last line without its newline waits for the next call.

        Raises:
            ValueError: if a complete line is not an event; the message names file and line start.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        events = []
        for line in data[:whole].splitlines():
            try:
                events.append(parse_event(line))
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from error
        self._offset += whole
        return events


def repair(path: str | Path) -> int:
    """Cuts a torn last line (no newline at its end) off a log; returns how many bytes went."""
    path = Path(path)
    if not path.exists():
        return 0
    data = path.read_bytes()
    torn = len(data) - (data.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, len(data) - torn)
    return torn
