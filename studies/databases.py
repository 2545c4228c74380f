"""Makes a SQLite database whole or not at all, whoever else starts and whenever the power goes.

A library makes its tables by many migrations, one after the other; a process that dies amid them, or two that
make them at once, leave a database that no version of the library understands.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from studies.locks import file_lock
from studies.temporary import left_over, temporary_name

PREFIX = "sqlite:///"


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, or None for other databases and servers."""
    return Path(url.removeprefix(PREFIX)) if url.startswith(PREFIX) else None


@contextlib.contextmanager
def made_whole(url: str, make: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock beside a SQLite database, in which it is made if it is not there; does nothing for others.

    Args:
        make: makes the tables in the database of a URL, and lets go of it.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    with file_lock(path.with_suffix(".lock")):
        for left in left_over(path.parent, deep=False):  # of one who died while making it
            left.unlink(missing_ok=True)
        if not path.exists() or path.stat().st_size == 0:
            temporary = temporary_name(path)
            try:
                make(f"{PREFIX}{temporary}")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _flush(path.parent)
        yield


def _flush(folder: Path) -> None:
    """Makes the folder's new names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
