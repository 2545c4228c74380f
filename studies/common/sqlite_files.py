"""Creates SQLite databases atomically, even with concurrent processes and power cuts.

Libraries create their tables by a sequence of migrations; a process that dies amid them, or two that run them at
once, leave a database that no version of the library understands.
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
    """The URL of a SQLite file, for MLflow and Optuna, whatever characters its name has.

    MLflow creates the folder of a `sqlite:///` URL without decoding escapes; so if there are any, the URL also names
    the driver, which is equivalent and skips that code.
    """
    # SQLAlchemy takes all other characters literally
    quoted = re.sub("[%?]", lambda found: quote(found.group(), safe=""), str(path))
    return f"sqlite:///{quoted}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL, or None for other databases and servers."""
    match = _SQLITE.match(url)
    return Path(unquote(match.group(1), errors="surrogateescape")) if match else None


@contextlib.contextmanager
def looked_into(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens an existing database for reading; does not create it.

    Not read-only: if a writer was killed, the next connection must roll back.
    """
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
        yield connection


@contextlib.contextmanager
def made_whole(url: str, make: Callable[[str], None], template: Path | None = None) -> Iterator[None]:
    """Creates a SQLite database if it is missing, and holds its lock within the block; other URLs are ignored.

    Args:
        make: creates the tables in the database of a URL, and closes it.
        template: a file that caches a database with empty tables, of which the next database becomes a copy; if it is
            missing or broken, `make` is called.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    with file_lock(path.with_suffix(".lock")):
        for left in left_over(path.parent, deep=False):  # of a process that died while creating it
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
    """Copies a database; returns whether that succeeded and the copy is intact."""
    try:
        shutil.copyfile(template, target)
        _flush(target)
        with contextlib.closing(sqlite3.connect(target)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return True
    except (OSError, sqlite3.Error):
        pass  # then it is created; a full disk raises there
    target.unlink(missing_ok=True)
    return False


def _keep(database: Path, template: Path) -> None:
    """Caches a new database as the template; only an optimization, so failures are ignored."""
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
    """Flushes a file's contents or a folder's entries to disk (survives a power cut)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
