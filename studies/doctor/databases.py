"""Checks for databases that are broken, incomplete or of another version."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from studies import search
from studies.common.errors import in_one_line, is_transient
from studies.common.sqlite_files import looked_into, sqlite_path
from studies.common.state_folder import StateFolder
from studies.doctor.finding import Finding, aside
from studies.tracking import database as tracking


@dataclass(frozen=True)
class _Database:
    path: Path
    rows: str  # the table whose rows must not be lost
    open: Callable[[], object]
    upgrade: Callable[[], None]


def examine(state_folder: StateFolder) -> list[Finding]:
    """Checks the databases that are SQLite files; servers are not checked."""
    mlflow, optuna = sqlite_path(state_folder.tracking_uri), sqlite_path(state_folder.storage)
    databases = []
    if mlflow is not None:
        uri = state_folder.tracking_uri
        databases.append(
            _Database(mlflow, "runs", lambda: tracking.open_existing(uri), lambda: tracking.upgrade_database(uri))
        )
    if optuna is not None:
        url = state_folder.storage
        databases.append(
            _Database(optuna, "trials", lambda: search.study_names(url), lambda: search.upgrade_database(url))
        )
    return [finding for database in databases if (finding := _examine(database)) is not None]


def _examine(database: _Database) -> Finding | None:
    path = database.path
    if not path.exists() or path.stat().st_size == 0:
        return None
    problem = _problem(database)
    if problem is None:
        return None
    if _count(path, database.rows):
        fix = "keep a copy and migrate it to this version; if that fails, move it aside"
    else:
        fix = "move it aside: it holds no results; it is rebuilt from the trials' logs"
    return Finding("database", f"{path}: {problem}", fix, lambda: _mend(database))


def _problem(database: _Database) -> str | None:
    """What is wrong with a database, as a file or for its library; None if nothing."""
    try:
        with looked_into(database.path) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            return str(answer)
        database.open()
    except Exception as error:  # an incomplete database may raise anything
        if is_transient(error):
            raise
        return in_one_line(error)
    return None


def _count(path: Path, table: str) -> int:
    try:
        with looked_into(path) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0


def _mend(database: _Database) -> None:
    path = database.path
    if _count(path, database.rows):
        shutil.copy2(path, aside(path, "before-doctor"))
        with contextlib.suppress(
            Exception
        ):  # errors don't matter: what counts is whether the database opens afterwards
            database.upgrade()
        if _problem(database) is None:
            return
    path.rename(aside(path))
