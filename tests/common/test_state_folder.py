import sqlite3
from pathlib import Path

import pytest

from studies.common.state_folder import StateFolder


def test_paths(empty_home: Path) -> None:
    home = StateFolder.find()
    assert home.folder == empty_home
    assert home.tracking_uri == f"sqlite:///{empty_home}/mlflow.db"
    assert home.storage == f"sqlite:///{empty_home}/optuna.db"
    home.check()
    assert not empty_home.exists(), "a check must create nothing"


def test_servers_by_environment_and_option(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    home = StateFolder.find("postgresql://host/db")
    assert home.is_remote and home.storage == "postgresql://host/db"
    with pytest.raises(ValueError, match=r"tracking server http://127.0.0.1:9 .* cannot be reached"):
        home.check()


def test_the_old_file_store_is_named(empty_home: Path) -> None:
    (empty_home / "0").mkdir(parents=True)
    (empty_home / "0" / "meta.yaml").touch()
    with pytest.raises(ValueError, match=r"old file store \(0/meta.yaml\)"):
        StateFolder.find().check()


def test_a_file_uri_is_rejected(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_URI must be"):
        StateFolder.find().check()


@pytest.mark.parametrize("name", ["mlflow.db", "optuna.db"])
def test_foreign_and_broken_databases_are_named(empty_home: Path, name: str) -> None:
    empty_home.mkdir()
    path = empty_home / name
    path.write_bytes(b"this is no database, but it is long enough to be looked at as one" * 20)
    with pytest.raises(ValueError, match=f"{name} is not a database"):
        StateFolder.find().check()
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ValueError, match=f"{name} is another program's database"):
        StateFolder.find().check()


def test_an_unusable_state_folder(empty_home: Path) -> None:
    empty_home.write_text("a file")
    with pytest.raises(ValueError, match="cannot be written"):
        StateFolder.find().check()


@pytest.mark.parametrize("study", ["toy", "../../outside", "/tmp/x", "a/b"])
def test_a_lease_is_inside_the_state_folder_whatever_a_study_is_called(tmp_path: Path, study: str) -> None:
    state = StateFolder(tmp_path, "", "")
    assert state.lease(study).parent == tmp_path / "studies"
