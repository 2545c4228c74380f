"""Artifact URIs after a state folder was moved, of this and of older versions."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from process_helpers import forget_open_databases

from studies.tracking.client import Tracking


def made(folder: Path, older: bool) -> str:
    """A state folder with one run; in those of older versions, each experiment has a folder for its artifacts."""
    (folder / "trials").mkdir(parents=True)
    place = folder / "artifacts" / "mine" if older else folder / "trials"
    tracking = Tracking(f"sqlite:///{folder}/mlflow.db", place)
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    note = folder / "note.txt"
    note.write_text("kept")
    tracking.log_files(run_id, note)
    forget_open_databases()
    return run_id


@pytest.mark.parametrize("older", [False, True], ids=["", "older"])
@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_a_run_is_read_from_and_written_to_the_present_folder(home: Path, older: bool, copied: bool) -> None:
    import shutil

    run_id = made(home / "before", older)
    (shutil.copytree if copied else shutil.move)(home / "before", home / "after")  # type: ignore[operator]
    said: list[str] = []
    tracking = Tracking(f"sqlite:///{home}/after/mlflow.db", home / "after" / "trials", notice=said.append)
    assert said == [
        f"the state folder was moved or copied from {home}/before: 2 artifact URIs were changed to {home}/after"
    ]
    more = home / "more.txt"
    more.write_text("later")
    tracking.log_files(run_id, more)
    assert tracking.files(run_id) == {"note.txt": 4, "more.txt": 5}
    assert [path.name for path in (home / "before").rglob("*.txt")].count("more.txt") == 0
    assert all(path.is_relative_to(home / "after") for path in home.rglob("*/artifacts/more.txt"))


def test_a_folder_of_that_name_elsewhere_is_kept_if_it_is_no_experiment_of_ours(home: Path) -> None:
    """Somebody may keep the artifacts of an experiment of his own in a folder `trials`."""
    made(home / "state", older=False)
    elsewhere = home / "elsewhere" / "trials"
    elsewhere.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(home / "state" / "mlflow.db")) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, workspace) "
            "SELECT 77, 'other', ?, 'active', workspace FROM experiments LIMIT 1",
            (elsewhere.as_uri(),),
        )
    said: list[str] = []
    tracking = Tracking(f"sqlite:///{home}/state/mlflow.db", home / "state" / "trials", notice=said.append)
    assert said == []
    assert tracking._client.get_experiment("77").artifact_location == elsewhere.as_uri()
