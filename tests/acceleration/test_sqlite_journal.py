"""SQLite's journal between transactions."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from studies.acceleration.sqlite_journal import keep_journals


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_journal_stays_empty_and_another_kind_stays_as_it_is(tmp_path: Path, mode: str) -> None:
    keep_journals()
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    engine = create_engine(f"sqlite:///{path}")
    for number in range(2):
        with engine.begin() as session:
            session.execute(text(f"INSERT INTO things VALUES ('{number}')"))
        journal = path.with_name("x.db-journal")
        assert journal.exists() is (mode == "delete")
        assert mode == "wal" or journal.stat().st_size == 0
    engine.dispose()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("0",), ("1",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)
    connection.close()


def test_a_locked_database_is_opened_all_the_same(tmp_path: Path) -> None:
    keep_journals()
    path = tmp_path / "x.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE things (name TEXT)")
    other.execute("BEGIN EXCLUSIVE")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.1})
    with engine.connect() as connection:
        other.execute("COMMIT")
        assert connection.execute(text("SELECT count(*) FROM things")).scalar() == 0
    engine.dispose()
    other.close()
