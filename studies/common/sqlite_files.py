"""Makes a SQLite database whole or not at all, whoever else starts and whenever the power goes.

A library makes its tables by many migrations, one after the other; a process that dies amid them, or two that
make them at once, leave a database that no version of the library understands.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from studies.common.atomic_files import left_over, temporary_name
from studies.common.locks import file_lock

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///([^?]+)")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, for MLflow and Optuna, whatever is in its name.

    MLflow makes the folder that it takes a `sqlite:///` URL for, escapes and all; so where there are any, the URL
    names the driver too, which says the same and is not looked at so.
    """
    # SQLAlchemy takes all other letters as they are
    quoted = re.sub("[%?]", lambda found: quote(found.group(), safe=""), str(path))
    return f"sqlite:///{quoted}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, or None for other databases and servers."""
    match = _SQLITE.match(url)
    return Path(unquote(match.group(1), errors="surrogateescape")) if match else None


@contextlib.contextmanager
def looked_into(path: Path) -> Iterator[sqlite3.Connection]:
    """A database that is there, to read from; it is not made.

    Not read-only: a database whose writer was killed is rolled back by whoever opens it next.
    """
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
        yield connection


@contextlib.contextmanager
def made_whole(url: str, make: Callable[[str], None], template: Path | None = None) -> Iterator[None]:
    """Holds a lock beside a SQLite database, in which it is made if it is not there; does nothing for others.

    Args:
        make: makes the tables in the database of a URL, and lets go of it.
        template: a file that keeps what was made, with tables alone, so that the next database is a copy of it;
            where it is not there, broken or not writable, `make` is called.
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
                if template is None or not _copied(template, temporary):
                    make(sqlite_url(temporary))
                    if template is not None:
                        _keep(temporary, template)
                temporary.replace(path)
            finally:
                for left in (temporary, Path(f"{temporary}-journal")):
                    left.unlink(missing_ok=True)
            _flush(path.parent)
        yield


def _copied(template: Path, target: Path) -> bool:
    """Copies a database; returns whether that worked and the copy is sound."""
    try:
        shutil.copyfile(template, target)
        _flush(target)
        with contextlib.closing(sqlite3.connect(target)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return True
    except (OSError, sqlite3.Error):
        pass  # it is made anew; a disk that is full says so there
    target.unlink(missing_ok=True)
    return False


def _keep(database: Path, template: Path) -> None:
    """Copies a new database to where the next one is copied from; it only saves time, so it may fail."""
    temporary = temporary_name(template)
    try:
        template.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(database, temporary)
        _flush(temporary)
        temporary.replace(template)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Makes a file's contents, or a folder's new names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
