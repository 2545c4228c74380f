import sqlite3
from pathlib import Path

import pytest

from studies.common.sqlite_files import made_whole, sqlite_path


def make(url: str) -> None:
    path = sqlite_path(url)
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")


def test_a_database_is_created_once(tmp_path: Path) -> None:
    path, made = tmp_path / "x.db", []
    for _ in range(2):
        with made_whole(f"sqlite:///{path}", lambda url: (made.append(url), make(url))[1]):
            assert path.exists()
    assert len(made) == 1


def test_a_crash_during_creation_leaves_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    def dies(url: str) -> None:
        make(url)
        assert not path.exists(), "no partial database is visible"
        raise KeyboardInterrupt

    (tmp_path / ".x.db.4194999.tmp").touch()  # left by a killed process
    with pytest.raises(KeyboardInterrupt), made_whole(f"sqlite:///{path}", dies):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["x.lock"]


def test_an_empty_file_is_not_a_database_and_servers_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    with made_whole(f"sqlite:///{path}", make):
        assert path.stat().st_size
    with made_whole("postgresql://somewhere/x", make):
        pass
    assert sqlite_path("http://127.0.0.1:5000") is None


@pytest.mark.parametrize("damage", ["none", "empty", "cut", "garbage", "unreadable folder"])
def test_a_template_is_copied_if_intact_and_never_does_harm(tmp_path: Path, damage: str) -> None:
    template, made = tmp_path / "cache" / "template.db", []

    def making(url: str) -> None:
        made.append(url)
        make(url)

    with made_whole(f"sqlite:///{tmp_path / 'first.db'}", making, template):
        pass
    whole = template.read_bytes()
    if damage == "unreadable folder":
        template = tmp_path / "first.db" / "template.db"  # below a file
    elif damage != "none":
        template.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"x" * len(whole)}[damage])
    with made_whole(f"sqlite:///{tmp_path / 'second.db'}", making, template):
        pass
    assert len(made) == (1 if damage == "none" else 2)
    with sqlite3.connect(tmp_path / "second.db") as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == []
    if damage != "unreadable folder":
        assert template.read_bytes() == whole
    assert not list(tmp_path.glob("**/.*.tmp"))
