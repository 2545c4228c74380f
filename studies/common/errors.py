"""Tells troubles with storage apart: a full disk, a database or server that will come back, and the rest.

Libraries wrap such errors in their own, several times over, so the whole chain and its texts are looked at.
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

DISK_FULL = 28  # exit status of a trial that could not write: ENOSPC's number
PATIENCE = 3600.0  # seconds that a locked database or an absent server is waited for

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
    """A disk, database or server cannot be written (exit 1). What was said so far stays in the event logs."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that caused it."""
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


def passes(error: BaseException) -> bool:
    """Whether an error is of the kind that passes by itself: a locked database, a server that is away."""
    if disk_is_full(error):
        return False
    return any(isinstance(item, _GOES_AWAY) or _PASSING.search(error_text(item)) for item in chain(error))


def in_one_line(error: BaseException) -> str:
    """The innermost cause in one line, without a library's advice and a database's statement."""
    *_, root = chain(error)
    text = next((part for part in re.split(r"\n|\[SQL", str(root)) if part.strip()), type(root).__name__)
    return " ".join(text.split())[:300]


def patiently(
    work: Callable[[], Result],
    notice: Callable[[str | None], None] = lambda text: None,
    patience: Callable[[], float] = lambda: PATIENCE,
) -> Result:
    """Does some work, again and again while what stops it passes by itself.

    Args:
        work: may be done again where it failed.
        notice: hears what is being waited for, and None once it is over.
        patience: seconds to wait in all; it is asked each time, so it may run out early.

    Raises:
        StorageFailed: a disk is full, or patience ran out.
    """
    began, pause = time.monotonic(), 0.1
    noticed = False
    while True:
        try:
            result = work()
        except Exception as error:
            if disk_is_full(error):
                raise StorageFailed(f"no space left on the disk: {in_one_line(error)}") from error
            if not passes(error):
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
