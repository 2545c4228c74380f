"""Runs the checks in order: databases first, since the rest is read from them; then files; then runs and trials."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from studies.common.state_folder import StateFolder
from studies.console.progress import Display
from studies.doctor import databases, files, runs
from studies.doctor.finding import Count, Finding, Item
from studies.tracking.queue import TrackingQueue

ROUNDS = 5  # a repair may reveal further findings
SAYING = 2.0  # seconds between lines about progress


def visit(state_folder: StateFolder, fix: bool, display: Display) -> tuple[list[Finding], list[Finding]]:
    """Checks everything; with `fix`, repairs what it finds and checks again.

    Returns:
        All findings, and those that remain.
    """
    display.phase("checking databases and files")
    count = _counting(display)
    found = left = databases.examine(state_folder)
    if fix and left:
        _mend(left, display)
        left = databases.examine(state_folder)
    if left:
        return found, left  # they cannot be read
    tracking = TrackingQueue()
    tracking.meanwhile, tracking.tell = display.refresh, display.say
    try:
        tracking.connect(state_folder.tracking_uri, state_folder.artifacts)
        for _ in range(ROUNDS if fix else 1):
            display.phase("comparing Optuna, MLflow, logs and processes")
            left = files.examine(state_folder, count)
            left += runs.Examination(state_folder, tracking, count).examine()
            found = found + [finding for finding in left if finding.where not in {known.where for known in found}]
            if not (fix and left):
                break
            _mend(left, display)
            tracking.now.flush()
    finally:
        tracking.close()
    return found, left


def _counting(display: Display) -> Count:
    """Passes items on, and shows every few seconds how many have been looked at."""

    def counted(items: Sequence[Item], what: str) -> Iterator[Item]:
        said = time.monotonic()
        for index, item in enumerate(items):
            if time.monotonic() - said > SAYING:
                said = time.monotonic()
                display.phase(f"{what}: {index:,} of {len(items):,}")
            yield item

    return counted


def _mend(findings: list[Finding], display: Display) -> None:
    for finding in findings:
        display.say(f"{finding.kind}: {finding.where}: {finding.fix}")
        finding.mend()
