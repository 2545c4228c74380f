"""Checks for broken checkpoints, specifications and logs, and for temporary files left by dead processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from studies.common.atomic_files import left_over, temporary_name
from studies.common.regular_files import open_regular
from studies.common.state_folder import StateFolder
from studies.doctor.finding import Count, Finding, aside, move_aside, silently
from studies.protocol.checkpoint_files import BEST, FOLDER, LAST, PREVIOUS, is_whole
from studies.protocol.event_log import NAME, EventReader, is_being_written
from studies.protocol.events import parse_event
from studies.protocol.trial_spec import TrialSpec


def examine(state_folder: StateFolder, count: Count = silently) -> list[Finding]:
    findings = [
        Finding("temporary-file", str(path), "delete it: its process is gone", lambda path=path: path.unlink())  # type: ignore[misc]
        for path in left_over(state_folder.folder)
    ]
    root = state_folder.folder.resolve()
    for folder in count(sorted(state_folder.folder.glob("trials/*")), "checking the files of trials"):
        if is_being_written(folder / NAME) or not (folder / FOLDER).resolve().is_relative_to(root):
            continue  # a link may lead to files of others
        findings += _texts(folder)
        for name in (BEST, LAST, PREVIOUS):
            path = folder / FOLDER / name
            if os.path.lexists(path) and not is_whole(path):
                findings.append(
                    Finding(
                        "checkpoint",
                        str(path),
                        "move it aside; the previous one takes its place",
                        lambda path=path: _mend(path),  # type: ignore[misc]
                    )
                )
    return findings


def _texts(folder: Path) -> Iterator[Finding]:
    """A trial's specification and log, if they cannot be read; anybody may have changed them."""
    spec, log = folder / "spec.json", folder / NAME
    if os.path.lexists(spec):
        try:
            TrialSpec.load(spec)
        except (OSError, ValueError) as error:
            fix = "move it aside: the run stays in MLflow, but cannot be resumed, extended or asked for predictions"
            yield Finding("specification", _named(spec, error), fix, partial(move_aside, spec))
    if os.path.lexists(log):
        reader = EventReader(log)
        try:
            reader.read()
        except OSError as error:
            reader.broken.append(_named(log, error))
        if reader.broken:
            more = f", and {len(reader.broken) - 1} lines more" if len(reader.broken) > 1 else ""
            fix = "keep a copy, and drop the lines that cannot be read"
            yield Finding("log", reader.broken[0] + more, fix, partial(_drop_lines, log))


def _named(path: Path, error: Exception) -> str:
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if str(path) in text else f"{path}: {text}"


def _drop_lines(path: Path) -> None:
    """Keeps the lines of a log that can be read; what is no file at all is only moved aside."""
    lines = []
    with contextlib.suppress(OSError), open_regular(path) as file:
        for line in file:
            with contextlib.suppress(ValueError):
                parse_event(line)
                lines.append(line)
    move_aside(path)
    temporary = temporary_name(path)
    temporary.write_bytes(b"".join(lines))
    temporary.replace(path)


def _mend(path: Path) -> None:
    path.rename(aside(path))
    previous = path.with_name(PREVIOUS)
    if path.name == LAST and previous.exists() and is_whole(previous):
        previous.rename(path)
