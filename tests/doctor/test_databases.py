"""What the doctor does with a database that its library does not understand; the libraries are stand-ins."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from studies.doctor.databases import _Database, _examine


def of_another_version(path: Path, upgrades: bool) -> _Database:
    """A database with a run in it that can be opened after an upgrade, which leaves another run or raises."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.execute("INSERT INTO runs VALUES ('before')")

    def execute(statement: str) -> list[tuple[str]]:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement).fetchall()

    def upgrade() -> None:
        execute("UPDATE runs SET name = 'after'")
        if not upgrades:
            raise RuntimeError("it broke off")

    def open_it() -> None:
        if not upgrades or execute("SELECT name FROM runs") == [("before",)]:
            raise RuntimeError("of another version")

    return _Database(path, "runs", open_it, upgrade)


@pytest.mark.parametrize("upgrades", [True, False])
def test_a_database_with_results_is_copied_before_it_is_upgraded(tmp_path: Path, upgrades: bool) -> None:
    path = tmp_path / "mlflow.db"
    database = of_another_version(path, upgrades)
    before = path.read_bytes()
    finding = _examine(database)
    assert finding is not None and "of another version" in finding.where
    finding.mend()
    assert (tmp_path / "mlflow.db.before-doctor").read_bytes() == before
    assert path.exists() is upgrades and (tmp_path / "mlflow.db.broken").exists() is not upgrades
    assert _examine(database) is None


def test_a_database_that_is_absent_or_empty_is_made_by_the_next_command(tmp_path: Path) -> None:
    def open_it() -> None:
        raise AssertionError("there is nothing to open")

    path = tmp_path / "mlflow.db"
    database = _Database(path, "runs", open_it, open_it)
    assert _examine(database) is None
    path.touch()
    assert _examine(database) is None and path.exists()
