import sqlite3
from pathlib import Path

import pytest

from studies.databases import made_whole, sqlite_path


def make(url: str) -> None:
    path = sqlite_path(url)
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")


def test_a_database_is_made_once(tmp_path: Path) -> None:
    path, made = tmp_path / "x.db", []
    for _ in range(2):
        with made_whole(f"sqlite:///{path}", lambda url: (made.append(url), make(url))[1]):
            assert path.exists()
    assert len(made) == 1


def test_who_dies_amid_making_it_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    def dies(url: str) -> None:
        make(url)
        assert not path.exists(), "nobody sees it half made"
        raise KeyboardInterrupt

    (tmp_path / ".x.db.4194999.tmp").touch()  # of one who was killed here, and had no time to tidy up
    with pytest.raises(KeyboardInterrupt), made_whole(f"sqlite:///{path}", dies):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["x.lock"]


def test_an_empty_file_is_no_database_and_a_server_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    with made_whole(f"sqlite:///{path}", make):
        assert path.stat().st_size
    with made_whole("postgresql://somewhere/x", make):
        pass
    assert sqlite_path("http://127.0.0.1:5000") is None
