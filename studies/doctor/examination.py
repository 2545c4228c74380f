"""Runs the checks in order: databases first, since the rest is read from them; then files; then runs and trials."""

from __future__ import annotations

from studies.common.state_folder import StateFolder
from studies.console.progress import Display
from studies.doctor import databases, files, runs
from studies.doctor.finding import Finding
from studies.tracking.queue import TrackingQueue

ROUNDS = 5  # a repair may reveal further findings


def visit(state_folder: StateFolder, fix: bool, display: Display) -> tuple[list[Finding], list[Finding]]:
    """Checks everything; with `fix`, repairs what it finds and checks again.

    Returns:
        All findings, and those that remain.
    """
    display.phase("checking databases and files")
    found = left = databases.examine(state_folder)
    if fix and left:
        _mend(left, display)
        left = databases.examine(state_folder)
    if left:
        return found, left  # they cannot be read
    tracking = TrackingQueue()
    tracking.meanwhile, tracking.tell = display.refresh, display.say
    try:
        tracking.connect(state_folder.tracking_uri, None if state_folder.is_remote else state_folder.artifacts)
        for _ in range(ROUNDS if fix else 1):
            display.phase("comparing Optuna, MLflow, logs and processes")
            left = files.examine(state_folder) + runs.Examination(state_folder, tracking).examine()
            found = found + [finding for finding in left if finding.where not in {known.where for known in found}]
            if not (fix and left):
                break
            _mend(left, display)
            tracking.now.flush()
    finally:
        tracking.close()
    return found, left


def _mend(findings: list[Finding], display: Display) -> None:
    for finding in findings:
        display.say(f"{finding.kind}: {finding.where}: {finding.fix}")
        finding.mend()
