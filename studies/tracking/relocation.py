"""A state folder that was moved, copied or renamed: MLflow's addresses of artifacts follow it. Standard library only.

MLflow stores with each experiment, run and model where its artifacts lie, as an absolute address. Whoever opens the
database in another place brings those addresses that mean its former folder's artifacts/ to this folder's, in one
transaction; so a folder that was moved makes nothing at its old place, and a copy writes to itself alone.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from studies.common.sqlite_files import sqlite_path

ARTIFACTS = "artifacts"  # folder beside the database
COLUMNS = (  # where MLflow 3.17 has addresses of files
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(uri: str) -> list[str]:
    """Brings the addresses in a database to the folder that it lies in now; returns what was done, a line each.

    Only a state folder of ours (it has trials/) is touched. An address stays as it is if its files are there and
    this folder has none of that name: then they were made elsewhere on purpose.

    Args:
        uri: of the database; nothing is done for servers. Whoever calls holds the lock on it.
    """
    path = sqlite_path(uri)
    if path is None or not (path.parent / "trials").is_dir():
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
        f"the state folder was moved or copied from {former}: {count} addresses of artifacts were brought to {here}"
        for former, count in counts.items()
    ]


def _bring(connection: sqlite3.Connection, former: Path, here: Path) -> None:
    """Copies what older versions wrote to the former place after the folder was moved from it."""
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
    """Former state folders, each with the names of its folders of artifacts that are to be looked for here."""
    try:
        locations = [row[0] for row in connection.execute("SELECT artifact_location FROM experiments")]
    except sqlite3.DatabaseError:  # not MLflow's, or broken: others say so
        return {}
    found: dict[Path, list[str]] = {}
    for location in locations:
        place = _file_of(location)
        if place is None or place.parent.name != ARTIFACTS or place.parent.parent == here:
            continue
        is_here, is_there = (here / ARTIFACTS / place.name).exists(), place.exists()
        if is_here or not is_there:
            found.setdefault(place.parent.parent, []).append(place.name)
    return found


def _file_of(location: str | None) -> Path | None:
    parsed = urlparse(location or "")
    return Path(unquote(parsed.path)) if parsed.scheme == "file" and parsed.netloc in ("", "localhost") else None


def _rewrite(connection: sqlite3.Connection, former: Path, here: Path, names: list[str]) -> int:
    """Replaces the beginnings of addresses below a former folder; returns how many."""
    count = 0
    for name in names:
        old, new = ((folder / ARTIFACTS / name).as_uri() for folder in (former, here))
        for table, column in COLUMNS:
            statement = (
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?"
            )
            if _has(connection, table, column):
                cursor = connection.execute(statement, (new, len(old) + 1, old, len(old) + 1, f"{old}/"))
                count += cursor.rowcount
    return count
