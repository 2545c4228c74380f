"""The state folder moved, copied, and with any name: absolute paths are not trusted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from process_helpers import forget_open_databases
from sqlalchemy.engine import make_url

from studies.cli.main import main
from studies.common.moved import moved_with
from studies.common.sqlite_files import sqlite_path, sqlite_url
from studies.protocol.trial_spec import TrialSpec

ODD = "a b?c#d%20'é\"[x]*"


@pytest.mark.parametrize("name", ["plain", ODD, "100%", "?", "#", "ünï", "a+b", "a@b:c"])
def test_a_database_of_any_name(name: str) -> None:
    path = Path("/somewhere") / name / "mlflow.db"
    url = sqlite_url(path)
    assert sqlite_path(url) == path
    assert make_url(url).database == str(path) and not make_url(url).query
    assert sqlite_path("http://host/sqlite:///a") is None
    assert sqlite_path("sqlite:////a/b.db?timeout=3") == Path("/a/b.db")


def test_paths_in_a_spec_follow_a_moved_folder(tmp_path: Path) -> None:
    here = tmp_path / "new" / "mlruns" / "trials" / "aa"
    here.mkdir(parents=True)
    (tmp_path / "new" / "code").mkdir()
    old = "/gone/project/mlruns/trials/aa"
    fields = {"folder": old, "resume": f"{old}/checkpoints/last.ckpt", "run_id": "aa", "experiment": {}, "seed": 0}
    fields["search_path"] = ["/gone/project/code", "/elsewhere"]
    (here / "spec.json").write_text(json.dumps(fields))
    spec = TrialSpec.load(here / "spec.json")
    assert spec.folder == str(here) and spec.resume == str(here / "checkpoints" / "last.ckpt")
    assert spec.search_path == [str(tmp_path / "new" / "code"), "/gone/project/code", "/elsewhere"]
    assert moved_with(fields, Path(old)) == fields


class Places:
    """A project whose state folder is moved, and the command run in it."""

    def __init__(self, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.toy, self.capsys, self.monkeypatch = toy, capsys, monkeypatch

    def run(self, home: Path, *argv: str) -> tuple[int, dict[str, Any], str]:
        forget_open_databases()
        self.monkeypatch.setenv("HARNESS_HOME", str(home))
        self.capsys.readouterr()
        status = main([*argv, "--json"])
        out, err = self.capsys.readouterr()
        return status, json.loads(out.strip().splitlines()[-1]), err

    def study(self, home: Path, trials: int) -> tuple[list[dict[str, Any]], str]:
        status, answer, err = self.run(home, "study", str(self.toy), "--trials", str(trials))
        assert status == 0, err
        return answer["trials"], err


def addresses(home: Path) -> set[str]:
    """Prefixes of all URIs in MLflow's database."""
    import sqlite3

    with sqlite3.connect(home / "mlflow.db") as connection:
        rows = [
            *connection.execute("SELECT artifact_location FROM experiments WHERE name != 'Default'"),
            *connection.execute("SELECT artifact_uri FROM runs"),
            *connection.execute("SELECT artifact_location FROM logged_models"),
        ]
    return {address.partition("/trials")[0] for (address,) in rows}


@pytest.mark.slow
def test_a_moved_and_a_copied_state_folder(
    empty_home: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(toy, capsys, monkeypatch)
    first, moved, copy = empty_home, tmp_path / ODD, tmp_path / "copy"
    places.study(first, 1)
    first.rename(moved)
    trials, said = places.study(moved, 2)
    assert f"the state folder was moved or copied from {first}" in said
    assert addresses(moved) == {moved.as_uri()}
    assert not first.exists(), "nothing is made at the old place"
    run_id = trials[0]["run_id"]
    status, _, said = places.run(moved, "extend", "toy", "--top", "1", "--epochs", "1")
    assert status == 0, said
    assert places.run(moved, "doctor")[:2] == (0, {"sound": True, "findings": []})

    shutil.copytree(moved, copy)
    before = sorted(path for path in moved.rglob("*"))
    trials, said = places.study(copy, 3)
    assert addresses(copy) == {copy.as_uri()} and len(trials) == 3
    assert sorted(path for path in moved.rglob("*")) == before, "a copy writes to itself alone"
    assert (copy / "trials" / run_id / "artifacts" / "log.txt").exists()
    assert places.run(copy, "doctor")[:2] == (0, {"sound": True, "findings": []})
    assert not first.exists()
