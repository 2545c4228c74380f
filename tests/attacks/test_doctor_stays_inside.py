"""`harness doctor --fix` on a state folder that somebody else has prepared: nothing outside of it is moved, written or
copied into it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commands import run
from process_helpers import forget_open_databases

from studies.common.trust import is_own, make_own


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A state folder with one finished run."""
    import os

    from studies.config.experiment import load
    from studies.driver.session import Options
    from studies.driver.train import train

    folder = tmp_path_factory.mktemp("trained") / "mlruns"
    previous = os.environ.get("HARNESS_HOME")
    os.environ["HARNESS_HOME"] = str(folder)
    try:
        toy = Path(__file__).parents[1] / "toy" / "toy.yaml"
        run_id = train(load(str(toy)), Options(["train", "toy"])).fields["run_id"]
    finally:
        del os.environ["HARNESS_HOME"]
        if previous is not None:
            os.environ["HARNESS_HOME"] = previous
    return folder, run_id


class Given:
    """A copy of the folder, as from somebody else, beside a secret of ours."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder, self.run_id = folder, run_id
        self.outside = folder.parent / "outside"
        self.outside.mkdir()
        self.secret = self.outside / "log.txt"
        self.secret.write_text("secret")

    @property
    def trial(self) -> Path:
        return self.folder / "trials" / self.run_id

    def sql(self, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.folder / "mlflow.db") as connection:
            connection.execute(statement, values)

    def artifacts(self) -> Path:
        return self.trial / "artifacts"

    def move_artifacts(self) -> None:
        """As in folders of older versions, whose artifacts are copies, in a folder of their own."""
        place = self.folder / "artifacts" / "toy" / self.run_id / "artifacts"
        shutil.copytree(self.trial / "artifacts", place)
        (self.trial / "artifacts" / "log.txt").rename(self.trial / "log.txt")
        self.sql("UPDATE runs SET artifact_uri = ?", place.as_uri())
        self.artifacts = lambda: place  # type: ignore[method-assign]

    def kill(self) -> None:
        """As if its driver had died: the doctor sends the whole trial to MLflow."""
        self.sql("UPDATE runs SET status = 'RUNNING'")
        self.sql("DELETE FROM tags WHERE key = 'harness.driver'")


@pytest.fixture
def given(trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    original, run_id = trained
    folder = tmp_path / "given"
    shutil.copytree(original, folder)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    made = Given(folder, run_id)
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        made.sql(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", str(original), str(folder))
    forget_open_databases()
    assert not is_own(folder)
    return made


def contents(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def run_id_is_a_path(given: Given) -> None:
    """The specification of a folder that MLflow does not know names another one."""
    shutil.copytree(given.trial, given.folder / "trials" / "unknown")
    spec = given.folder / "trials" / "unknown" / "spec.json"
    spec.write_text(spec.read_text().replace(f'"run_id": "{given.run_id}"', '"run_id": "../../outside"'))


def run_id_is_another(given: Given) -> None:
    run_id_is_a_path(given)
    spec = given.folder / "trials" / "unknown" / "spec.json"
    spec.write_text(spec.read_text().replace("../../outside", given.run_id))


def run_id_in_the_database_is_a_path(given: Given) -> None:
    columns = "SELECT * FROM runs WHERE run_uuid = ?"
    with sqlite3.connect(given.folder / "mlflow.db") as connection:
        connection.execute(f"CREATE TEMP TABLE t AS {columns}", (given.run_id,))
        connection.execute("UPDATE t SET run_uuid = '../../outside', name = 'other'")
        connection.execute("INSERT INTO runs SELECT * FROM t")
        connection.execute(
            "INSERT INTO tags SELECT key, value, '../../outside' FROM tags WHERE run_uuid = ?", (given.run_id,)
        )


def address_is_elsewhere(given: Given) -> None:
    """MLflow says that the run's artifacts, which lack a file, are in our folder."""
    given.sql("UPDATE runs SET artifact_uri = ?", given.outside.as_uri())


def artifact_is_a_link(given: Given) -> None:
    """Writing log.txt to the artifacts would write to our secret."""
    target = given.artifacts() / "log.txt"
    target.unlink()
    target.symlink_to(given.secret)


def folder_of_artifacts_is_a_link(given: Given) -> None:
    folder = given.artifacts()
    shutil.rmtree(folder)
    folder.symlink_to(given.outside)


def file_of_the_trial_is_a_link(given: Given) -> None:
    """Copying it to the artifacts would show our secret in the UI."""
    (given.trial / "artifacts" / "notes.txt").symlink_to(given.secret)
    log = next(path for path in (given.trial / "log.txt", given.trial / "artifacts" / "log.txt") if path.exists())
    log.unlink()
    log.symlink_to(given.secret)
    (given.artifacts() / "log.txt").unlink(missing_ok=True)


def folder_of_the_trial_is_a_link(given: Given) -> None:
    (given.trial / "artifacts" / "pictures").mkdir(exist_ok=True)
    (given.trial / "artifacts" / "more").symlink_to(given.outside)


def artifacts_of_the_trial_are_a_link(given: Given) -> None:
    """All files in the folder would be shown in the UI."""
    shutil.rmtree(given.trial / "artifacts")
    (given.outside / "private.txt").write_text("secret")
    (given.trial / "artifacts").symlink_to(given.outside)


def checkpoints_of_a_dead_run_are_a_link(given: Given) -> None:
    """They would be copied, and one of them deleted."""
    given.kill()
    (given.trial / "checkpoints").rename(given.outside / "checkpoints")
    (given.outside / "checkpoints" / "best.ckpt").write_bytes(b"secret")
    (given.outside / "checkpoints" / "previous.ckpt").write_bytes(b"secret")
    (given.trial / "checkpoints").symlink_to(given.outside / "checkpoints")


def file_of_a_dead_run_is_a_link(given: Given) -> None:
    given.kill()
    (given.trial / "artifacts" / "notes.txt").symlink_to(given.secret)


def dead_run_is_a_link(given: Given) -> None:
    given.kill()
    given.trial.rename(given.outside / "trial")
    (given.outside / "trial" / "checkpoints" / "previous.ckpt").write_bytes(b"secret")
    given.trial.symlink_to(given.outside / "trial")


def checkpoints_are_a_link(given: Given) -> None:
    """They look broken, and would be moved aside."""
    shutil.rmtree(given.trial / "checkpoints")
    (given.outside / "last.ckpt").write_bytes(b"not a checkpoint")
    (given.trial / "checkpoints").symlink_to(given.outside)


def best_is_a_dangling_link(given: Given) -> None:
    """Copying it back would make a file of ours."""
    best = given.trial / "checkpoints" / "best.ckpt"
    best.unlink()
    best.symlink_to(given.outside / "new.ckpt")


def trial_is_a_link(given: Given) -> None:
    shutil.copytree(given.trial, given.outside / "trial")
    (given.folder / "trials" / "linked").symlink_to(given.outside / "trial")


ATTACKS = [
    artifacts_of_the_trial_are_a_link,
    checkpoints_of_a_dead_run_are_a_link,
    file_of_a_dead_run_is_a_link,
    dead_run_is_a_link,
    run_id_is_a_path,
    run_id_is_another,
    run_id_in_the_database_is_a_path,
    address_is_elsewhere,
    artifact_is_a_link,
    folder_of_artifacts_is_a_link,
    file_of_the_trial_is_a_link,
    folder_of_the_trial_is_a_link,
    checkpoints_are_a_link,
    best_is_a_dangling_link,
    trial_is_a_link,
]


@pytest.mark.parametrize("older", [False, True], ids=["", "older"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_outside_is_touched_and_nothing_of_it_comes_in(
    given: Given, capsys: pytest.CaptureFixture[str], attack: Any, older: bool
) -> None:
    if older:
        given.move_artifacts()
    attack(given)
    forget_open_databases()
    before = contents(given.outside)
    trial = contents(given.trial) if attack is run_id_is_another else None
    status, _, err = run(capsys, "doctor", "--fix")
    assert status in (0, 1) and "Traceback" not in err, err
    assert contents(given.outside) == before
    places = [*given.folder.glob("trials/*/artifacts"), given.folder / "artifacts"]
    served = [path for place in places if not place.is_symlink() for path in place.rglob("*") if path.is_file()]
    served = [path for path in served if not path.is_symlink()]
    assert not [path for path in served if path.read_bytes() == b"secret"]
    if trial is not None:
        assert contents(given.trial) == trial, "another run's folder is left alone"


def test_the_same_address_is_written_to_in_ones_own_folder(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever gives an experiment another place for its artifacts has them there."""
    given.folder.rename(given.folder.with_name("aside"))
    make_own(given.folder)
    shutil.copytree(given.folder.with_name("aside"), given.folder, dirs_exist_ok=True)
    assert is_own(given.folder)
    address_is_elsewhere(given)
    given.secret.unlink()
    forget_open_databases()
    assert run(capsys, "doctor", "--fix")[0] == 0
    assert given.secret.exists(), "its log"
