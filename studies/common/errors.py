"""Classifies storage errors: a full disk, a database or server that is temporarily unavailable, and the rest.

Libraries wrap such errors several times over, so the whole chain and its messages are inspected.
Standard library only.
"""

from __future__ import annotations

import errno
import http.client
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from studies.common.text import error_text

DISK_FULL = 28  # exit status of a trial that could not write; the number of ENOSPC
PATIENCE = 3600.0  # seconds to wait for a locked database or an unreachable server

Result = TypeVar("Result")

_FULL = re.compile(r"no space left|disk is full|quota exceeded|disk quota", re.IGNORECASE)
_PASSING = re.compile(
    r"database is locked|database table is locked|connection ?(refused|reset|aborted|error)|max retries exceeded|"
    r"connection broken|incomplete ?read|ended prematurely|failed to establish|remote end closed|timed out|"
    r"temporarily unavailable|too many (connections|clients)|"
    r"server closed the connection|starting up|shutting down|could not connect|connection to server|"
    r"error code (429|502|503|504)|too many 50[234]",
    re.IGNORECASE,
)
_GOES_AWAY = (ConnectionError, TimeoutError, http.client.IncompleteRead, http.client.BadStatusLine)


class WorkFailed(Exception):
    """The work itself failed (exit 1), as opposed to bad input (ValueError, exit 2)."""


class StorageFailed(Exception):
    """A disk, database or server cannot be written (exit 1). Events so far stay in the event logs."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its chain of causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def disk_is_full(error: BaseException) -> bool:
    """Whether an error comes from a disk (or a quota) without space."""
    return any(
        (isinstance(item, OSError) and item.errno in (errno.ENOSPC, errno.EDQUOT)) or _FULL.search(error_text(item))
        for item in chain(error)
    )


def is_transient(error: BaseException) -> bool:
    """Whether an error is temporary: a locked database, an unreachable server."""
    if disk_is_full(error):
        return False
    return any(isinstance(item, _GOES_AWAY) or _PASSING.search(error_text(item)) for item in chain(error))


def in_one_line(error: BaseException) -> str:
    """The innermost cause in one line, without a library's advice or the SQL statement."""
    *_, root = chain(error)
    text = next((part for part in re.split(r"\n|\[SQL", str(root)) if part.strip()), type(root).__name__)
    return " ".join(text.split())[:300]


def retry_transient(
    work: Callable[[], Result],
    notice: Callable[[str | None], None] = lambda text: None,
    patience: Callable[[], float] = lambda: PATIENCE,
) -> Result:
    """Calls `work`, and repeats it while it fails with temporary errors.

    Args:
        work: must be safe to repeat after a failure.
        notice: called with the error that is being waited out, and with None once it is over.
        patience: returns the total seconds to wait; called each time, so it may be cut short.

    Raises:
        StorageFailed: a disk is full, or the time is up.
    """
    began, pause = time.monotonic(), 0.1
    noticed = False
    while True:
        try:
            result = work()
        except Exception as error:
            if disk_is_full(error):
                raise StorageFailed(f"no space left on the disk: {in_one_line(error)}") from error
            if not is_transient(error):
                raise
            if time.monotonic() - began > patience():
                raise StorageFailed(in_one_line(error)) from error
            noticed = True
            notice(in_one_line(error))
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
        else:
            if noticed:
                notice(None)
            return result
