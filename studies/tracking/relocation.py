"""Updates MLflow's artifact URIs after a state folder was moved, copied or renamed. Standard library only.

MLflow stores absolute artifact URIs with each experiment, run and model. When the database is opened in a new place,
the URIs below the former folder are changed to this folder's, in one transaction; so a moved folder creates nothing at
its old place, and a copy only writes to itself.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from studies.common.sqlite_files import sqlite_path

TRIALS = "trials"  # folder next to the database, which has the artifacts of all experiments
ARTIFACTS = "artifacts"  # the same of older versions, with a folder for each experiment
COLUMNS = (  # where MLflow 3.17 stores file URIs
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(uri: str) -> list[str]:
    """Changes the URIs in a database to its present folder; returns a line for each change.

    Only the harness's state folders (with trials/) are changed. A URI is kept if its files exist and this folder has
    none of that name: then it points elsewhere on purpose.

    Args:
        uri: of the database, whose lock the caller holds; servers are ignored.
    """
    path = sqlite_path(uri)
    if path is None or not (path.parent / TRIALS).is_dir():
        return []
    here = path.parent.resolve()
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        moved = _former_places(connection, here)
        if not moved:
            return []
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            counts = {former: _rewrite(connection, former, here, names) for former, names in moved.items()}
        for former in moved:
            _bring(connection, former, here)
    return [
        f"the state folder was moved or copied from {former}: {count} artifact URIs were changed to {here}"
        for former, count in counts.items()
    ]


def _bring(connection: sqlite3.Connection, former: Path, here: Path) -> None:
    """Copies files that older versions wrote to the former place after the move."""
    for table, column in COLUMNS:
        if not _has(connection, table, column):
            continue
        for (address,) in connection.execute(f"SELECT {column} FROM {table}").fetchall():
            place = _file_of(address)
            if place is not None and place.is_relative_to(here / ARTIFACTS) and not place.exists():
                there = former / place.relative_to(here)
                if there.is_dir():
                    shutil.copytree(there, place)


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _former_places(connection: sqlite3.Connection, here: Path) -> dict[Path, list[str]]:
    """Former state folders, each with its artifact folders, relative to it, to look for here."""
    ours = "SELECT experiment_id FROM experiment_tags WHERE key = 'harness.experiment'"
    query = f"SELECT DISTINCT artifact_location, experiment_id IN ({ours}) FROM experiments"
    try:
        locations = connection.execute(query).fetchall()
    except sqlite3.DatabaseError:  # not MLflow's, or broken: reported elsewhere
        return {}
    found: dict[Path, list[str]] = {}
    for location, is_ours in locations:
        place = _file_of(location)
        if place is None:
            continue
        if place.name == TRIALS and is_ours:
            former = place.parent
        elif place.parent.name == ARTIFACTS:
            former = place.parent.parent
        else:
            continue
        name = str(place.relative_to(former))
        if former != here and ((here / name).exists() or not place.exists()):
            found.setdefault(former, []).append(name)
    return found


def _file_of(location: str | None) -> Path | None:
    parsed = urlparse(location or "")
    return Path(unquote(parsed.path)) if parsed.scheme == "file" and parsed.netloc in ("", "localhost") else None


def _rewrite(connection: sqlite3.Connection, former: Path, here: Path, names: list[str]) -> int:
    """Replaces the prefix of URIs below a former folder; returns the number of changes."""
    count = 0
    for name in names:
        old, new = ((folder / name).as_uri() for folder in (former, here))
        for table, column in COLUMNS:
            statement = (
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?"
            )
            if _has(connection, table, column):
                cursor = connection.execute(statement, (new, len(old) + 1, old, len(old) + 1, f"{old}/"))
                count += cursor.rowcount
    return count
