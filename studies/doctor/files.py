"""Checks for broken checkpoints and temporary files left by dead processes."""

from __future__ import annotations

from pathlib import Path

from studies.common.atomic_files import left_over
from studies.common.state_folder import StateFolder
from studies.common.trust import contains
from studies.doctor.finding import Finding, aside
from studies.protocol.checkpoint_files import BEST, FOLDER, LAST, PREVIOUS, is_whole
from studies.protocol.event_log import NAME, is_being_written


def examine(state_folder: StateFolder) -> list[Finding]:
    findings = [
        Finding("temporary-file", str(path), "delete it: its process is gone", lambda path=path: path.unlink())  # type: ignore[misc]
        for path in left_over(state_folder.folder)
    ]
    for folder in sorted(state_folder.folder.glob("trials/*")):
        if is_being_written(folder / NAME) or not contains(state_folder.folder, folder / FOLDER):
            continue  # a link may lead to files of others
        for name in (BEST, LAST, PREVIOUS):
            path = folder / FOLDER / name
            if path.exists() and not is_whole(path):
                findings.append(
                    Finding(
                        "checkpoint",
                        str(path),
                        "move it aside; the previous one takes its place",
                        lambda path=path: _mend(path),  # type: ignore[misc]
                    )
                )
    return findings


def _mend(path: Path) -> None:
    path.rename(aside(path))
    previous = path.with_name(PREVIOUS)
    if path.name == LAST and previous.exists() and is_whole(previous):
        previous.rename(path)
