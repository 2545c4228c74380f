"""`harness delete` and `harness gc`, on a real state folder."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import run
from mlflow import MlflowClient
from process_helpers import HARNESS, TOY, Workspace, forget_open_databases

from studies.driver.deletion import size_of

pytestmark = pytest.mark.slow


class Filled(Workspace):
    """Two runs and a study of two trials."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.runs: list[str] = []
        for seed in ("0", "1"):
            status, answer, err = self.run("train", TOY, "--seed", seed, "--no-test")
            assert status == 0, err
            self.runs.append(answer["run_id"])
        status, answer, err = self.run("study", TOY, "--trials", "2")
        assert status == 0, err
        self.trials: list[str] = [trial["run_id"] for trial in answer["trials"]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("filled"))


@pytest.fixture
def here(filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy for each test."""
    copy = Workspace(tmp_path)
    shutil.copytree(filled.home, copy.home)
    monkeypatch.setenv("HARNESS_HOME", str(copy.home))
    monkeypatch.chdir(tmp_path)
    forget_open_databases()
    return copy


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=workspace.uri)


def folders(workspace: Workspace) -> set[str]:
    return {path.name for path in (workspace.home / "trials").iterdir()} - {"models"}


def test_a_run_goes_to_the_trash_with_its_folder_and_gc_ends_it(
    filled: Filled, here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, kept = filled.runs
    size = size_of(here.home / "trials" / gone)
    status, answer, err = run(capsys, "delete", gone[:10], "--yes")
    assert status == 0 and answer == {"deleted": [gone], "studies": [], "freed": size}, err
    assert f"run {gone[:8]} (toy: seed=0), " in err and f"deleted run {gone[:8]}" in err
    assert gone not in folders(here) and kept in folders(here)
    assert client(here).get_run(gone).info.lifecycle_stage == "deleted"
    assert run(capsys, "doctor")[:2] == (0, {"sound": True, "findings": []})
    status, answer, err = run(capsys, "gc", "--yes")
    assert status == 0 and answer == {"deleted": [gone], "freed": 0}, err
    with sqlite3.connect(here.home / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs WHERE run_uuid = ?", (gone,)).fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (4,)
    assert run(capsys, "gc", "--yes")[:2] == (0, {"deleted": [], "freed": 0})
    assert run(capsys, "doctor")[:2] == (0, {"sound": True, "findings": []})


def test_a_study_goes_with_all_its_trials(filled: Filled, here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    client(here).delete_run(filled.trials[0])  # in the UI: it goes, too
    status, answer, err = run(capsys, "delete", "toy", "--yes")
    assert status == 0 and answer["studies"] == ["toy"] and set(answer["deleted"]) > set(filled.trials), err
    assert len(answer["deleted"]) == 3 and answer["freed"] > 10_000
    assert "study toy: 2 trials, of which toy@champion is one" in err
    assert folders(here) == set(filled.runs)
    assert run(capsys, "doctor")[:2] == (0, {"sound": True, "findings": []})
    status, answer, err = run(capsys, "delete", "toy", "--yes")
    assert status == 2 and answer["error"].startswith("unknown run or study toy"), answer
    status, answer, err = here.run("study", TOY, "--trials", "1", "--no-test")
    assert status == 0 and len(answer["trials"]) == 1, err


def test_what_was_deleted_in_the_ui_is_freed(
    filled: Filled, here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = filled.runs[1]
    size = size_of(here.home / "trials" / gone)
    client(here).delete_run(gone)
    client(here).delete_run(filled.trials[1])  # of a study that still exists: `doctor --fix` restores it
    status, answer, err = run(capsys, "gc", "--yes")
    assert status == 0 and answer == {"deleted": [gone], "freed": size}, err
    assert folders(here) == {filled.runs[0], *filled.trials, *(folders(here) - {*filled.runs, *filled.trials})}
    assert gone not in folders(here)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["delete", "toi", "--yes"], "unknown run or study toi"),
        (["delete", "../x", "--yes"], "unknown run or study ../x"),
        (["delete", "toy"], "cannot ask whether to delete, as stdin is not a terminal: give --yes"),
        (["delete"], "the following arguments are required: RUN|STUDY"),
    ],
)
def test_bad_input_deletes_nothing(
    here: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    before = folders(here)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, answer, _ = run(capsys, *arguments)
    assert status == 2 and said in answer["error"], answer
    assert folders(here) == before


def test_a_trial_cannot_be_deleted_alone(filled: Filled, here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "delete", filled.trials[0], "--yes")
    assert status == 2 and "`harness delete toy` deletes the study" in answer["error"]
    assert set(filled.trials) < folders(here)


@pytest.mark.parametrize("answer", ["n\n", "\n", "yes\n"])
def test_it_asks_at_a_terminal(filled: Filled, here: Workspace, answer: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = subprocess.Popen([HARNESS, "delete", filled.runs[0]], stdin=theirs, env=here.environment)
    os.write(ours, answer.encode())
    assert command.wait(60) == (0 if answer == "yes\n" else 1)
    os.close(ours)
    os.close(theirs)
    assert (filled.runs[0] in folders(here)) == (answer != "yes\n")


def elsewhere(here: Workspace, run_id: str, outside: Path) -> None:
    """The address of a run's artifacts is outside."""
    with sqlite3.connect(here.home / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (outside.as_uri(), run_id))


def linked(here: Workspace, run_id: str, outside: Path) -> None:
    folder = here.home / "trials" / run_id
    shutil.rmtree(folder)
    folder.symlink_to(outside)


def linked_inside(here: Workspace, run_id: str, outside: Path) -> None:
    shutil.rmtree(here.home / "trials" / run_id / "artifacts")
    (here.home / "trials" / run_id / "artifacts").symlink_to(outside)


@pytest.mark.parametrize("attack", [elsewhere, linked, linked_inside], ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("command", ["delete", "gc"])
def test_nothing_outside_is_deleted(
    filled: Filled, here: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], attack: Any, command: str
) -> None:
    run_id, outside = filled.runs[0], tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("kept")
    attack(here, run_id, outside)
    if command == "gc":
        client(here).delete_run(run_id)
    forget_open_databases()
    status, _, err = run(capsys, *([command, run_id] if command == "delete" else [command]), "--yes")
    assert status in (0, 1, 2), err
    assert run(capsys, "gc", "--yes")[0] == 0
    assert (outside / "precious.txt").read_text() == "kept"
