"""Failed trials, grouped by what went wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studies.common.regular_files import open_regular
from studies.protocol.event_log import NAME
from studies.protocol.events import Failed, Finished, parse_event
from studies.reports.values import text_of
from studies.search import TrialRow

MOST_READ = 1000  # failed trials whose logs are read
TAIL = 65_536  # bytes at the end of a log, in which its last event lies
UNKNOWN = "no reason is in its log"
NO_NUMBER = "the metric was never a number"


@dataclass
class Failure:
    """Trials that failed for the same reason. Attributes: `reason` of the first, `trials` their numbers."""

    reason: str
    trials: list[int] = field(default_factory=list)


def failures(rows: Sequence[TrialRow], folder_of: Callable[[str], Path]) -> list[Failure]:
    """The failed trials by reason, the most frequent first; numbers in a message do not count.

    Args:
        folder_of: a run's folder.
    """
    found: dict[str, Failure] = {}
    failed = [row for row in rows if row.state == "FAIL"]
    for row in failed[:MOST_READ]:
        reason = _reason(folder_of(row.run_id)) if row.run_id else UNKNOWN
        key = re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?(e[-+]?\d+)?", "#", reason)
        found.setdefault(key, Failure(reason)).trials.append(row.number)
    if len(failed) > MOST_READ:
        found["more"] = Failure("not looked at", [row.number for row in failed[MOST_READ:]])
    return sorted(found.values(), key=lambda failure: -len(failure.trials))


def _reason(folder: Path) -> str:
    """What a trial's log says last of its failure; only the end of the log is read."""
    try:
        with open_regular(folder / NAME) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return UNKNOWN
    for line in reversed(lines):
        if b'"failed"' in line or b'"finished"' in line:
            with contextlib.suppress(ValueError):
                event = parse_event(line)
                if isinstance(event, Failed):
                    return text_of(event.error, 400)
                if isinstance(event, Finished):
                    return NO_NUMBER
    return UNKNOWN
