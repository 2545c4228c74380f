"""The doctor: each illness is made, found, mended without loss, and not found again."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from process_helpers import forget_open_databases

from studies.cli.main import main
from studies.common.locks import this_process
from studies.search import Search, study_names


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main([*argv, "--json"])
    return status, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A state folder with a study of three trials and a single run, all sound."""
    folder = tmp_path_factory.mktemp("studied")
    toy = Path(__file__).parents[1] / "toy" / "toy.yaml"
    previous = os.environ.get("HARNESS_HOME")
    os.environ["HARNESS_HOME"] = str(folder / "mlruns")
    try:
        from studies.config.experiment import load
        from studies.driver import commands as driver
        from studies.driver.session import Options
        from studies.driver.train import train

        study = driver.run_study(load(str(toy)), Options(["study", "toy"], trials=3, workers=2, test=False))
        single = train(load(str(toy)), Options(["train", "toy"]))
    finally:
        del os.environ["HARNESS_HOME"]
        if previous is not None:
            os.environ["HARNESS_HOME"] = previous
    return folder / "mlruns", {"trials": study.fields["trials"], "single": single.fields["run_id"]}


class Patient:
    """A copy of the state folder to be made ill."""

    def __init__(self, home: Path, trials: list[dict[str, Any]], single: str) -> None:
        self.home = home
        self.trials = trials
        self.single = single
        self.client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")

    def folder(self, number: int) -> Path:
        return self.home / "trials" / self.trials[number]["run_id"]

    def sql(self, database: str, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.home / database) as connection:
            connection.execute(statement, values)

    def forget_in_optuna(self, number: int, state: str) -> None:
        self.sql("optuna.db", "UPDATE trials SET state = ? WHERE number = ?", state, number)
        if state == "RUNNING":
            where = "trial_id IN (SELECT trial_id FROM trials WHERE number = ?)"
            self.sql("optuna.db", f"DELETE FROM trial_values WHERE {where}", number)

    def set_status(self, number: int, status: str) -> None:
        self.sql("mlflow.db", "UPDATE runs SET status = ? WHERE run_uuid = ?", status, self.trials[number]["run_id"])

    def rows(self) -> list[tuple[int, str, Any]]:
        search = Search.existing(f"sqlite:///{self.home}/optuna.db", "toy")
        return [(row.number, row.state, row.value) for row in search.trials()]

    def curve(self, number: int) -> list[tuple[int, float]]:
        search = Search.existing(f"sqlite:///{self.home}/optuna.db", "toy")
        run_id = search.trials()[number].run_id
        return [(m.step, m.value) for m in self.client.get_metric_history(run_id, "val/loss")]


@pytest.fixture
def patient(studied: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A copy; MLflow keeps absolute paths of artifacts."""
    original, what = studied
    home = tmp_path / "mlruns"
    shutil.copytree(original, home)
    copy = Patient(home, what["trials"], what["single"])
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        replaced = f"replace({column}, ?, ?)"
        copy.sql("mlflow.db", f"UPDATE {table} SET {column} = {replaced}", str(original), str(home))
    forget_open_databases()
    monkeypatch.setenv("HARNESS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return copy


def killed_driver(patient: Patient) -> None:
    patient.forget_in_optuna(1, "RUNNING")
    patient.set_status(1, "RUNNING")


def killed_driver_at_once(patient: Patient) -> None:
    """Before it had written which run its trial is."""
    killed_driver(patient)
    where = "trial_id IN (SELECT trial_id FROM trials WHERE number = 1)"
    patient.sql("optuna.db", f"DELETE FROM trial_user_attributes WHERE {where}")


def killed_at_once(patient: Patient) -> None:
    """And its trial with it."""
    interrupted(patient)
    killed_driver_at_once(patient)


def untold(patient: Patient) -> None:
    patient.set_status(1, "RUNNING")
    run_id = patient.trials[1]["run_id"]
    for table in ("metrics", "latest_metrics"):
        patient.sql("mlflow.db", f"DELETE FROM {table} WHERE run_uuid = ?", run_id)


def interrupted(patient: Patient) -> None:
    """Killed in the second epoch: its log has no ending."""
    killed_driver(patient)
    log = patient.folder(1) / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:20])


def single_run_killed(patient: Patient) -> None:
    patient.sql("mlflow.db", "UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", patient.single)
    patient.sql("mlflow.db", "UPDATE tags SET value = ? WHERE key = 'harness.driver'", "elsewhere-not 1 1")
    host = this_process().split()[0]
    patient.sql("mlflow.db", "UPDATE tags SET value = ? WHERE key = 'harness.driver'", f"{host} 4194999 1")


def parent_running(patient: Patient) -> None:
    where = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'harness.kind' AND value = 'study')"
    patient.sql("mlflow.db", f"UPDATE runs SET status = 'RUNNING' WHERE {where}")


def disagree(patient: Patient) -> None:
    patient.set_status(2, "FAILED")


def orphan(patient: Patient) -> None:
    experiment = patient.client.get_experiment_by_name("toy").experiment_id
    tags = {"harness.kind": "trial", "harness.study": "gone", "harness.trial": "0"}
    patient.client.create_run(experiment, tags=tags)


def no_artifact(patient: Patient) -> None:
    for path in (patient.home / "trials").glob("*/artifacts/checkpoints/best.ckpt"):
        path.unlink()


def broken_checkpoint(patient: Patient) -> None:
    path = patient.folder(0) / "checkpoints" / "last.ckpt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # best.ckpt may be the same file
    path.write_bytes(data[: len(data) // 2])


def no_best_checkpoint(patient: Patient) -> None:
    (patient.folder(0) / "checkpoints" / "best.ckpt").unlink()


def nowhere(patient: Patient) -> None:
    no_best_checkpoint(patient)
    run_id = patient.trials[0]["run_id"]
    (patient.home / "trials" / run_id / "artifacts" / "checkpoints" / "best.ckpt").unlink()


def left_over(patient: Patient) -> None:
    (patient.folder(0) / "checkpoints" / ".last.ckpt.4194999.tmp").write_bytes(b"half")


def no_mlflow(patient: Patient) -> None:
    (patient.home / "mlflow.db").unlink()


def half_migrated(patient: Patient) -> None:
    (patient.home / "mlflow.db").unlink()
    patient.sql("mlflow.db", "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    patient.sql("mlflow.db", "CREATE TABLE experiments (name TEXT)")


def torn_database(patient: Patient) -> None:
    path = patient.home / "mlflow.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])


def half_made_optuna(patient: Patient) -> None:
    (patient.home / "optuna.db").unlink()
    patient.sql("optuna.db", "CREATE TABLE studies (study_id INTEGER)")


def deleted_trial(patient: Patient) -> None:
    patient.client.delete_run(patient.trials[1]["run_id"])


def deleted_parent(patient: Patient) -> None:
    experiment = patient.client.get_experiment_by_name("toy").experiment_id
    (parent,) = patient.client.search_runs([experiment], "tags.`harness.kind` = 'study'")
    patient.client.delete_run(parent.info.run_id)


def deleted_experiment(patient: Patient) -> None:
    patient.client.delete_experiment(patient.client.get_experiment_by_name("toy").experiment_id)


ILLNESSES: list[tuple[Callable[[Patient], None], str]] = [
    (killed_driver, "states-disagree"),
    (killed_driver_at_once, "states-disagree"),
    (untold, "no-process"),
    (interrupted, "no-process"),
    (killed_at_once, "no-process"),
    (single_run_killed, "no-process"),
    (parent_running, "no-process"),
    (disagree, "states-disagree"),
    (orphan, "no-study"),
    (no_artifact, "artifact-missing"),
    (broken_checkpoint, "checkpoint"),
    (no_best_checkpoint, "checkpoint"),
    (nowhere, "artifact-missing"),
    (left_over, "temporary-file"),
    (no_mlflow, "run-missing"),
    (deleted_trial, "run-deleted"),
    (deleted_parent, "run-deleted"),
    (deleted_experiment, "run-deleted"),
    (half_migrated, "database"),
    (torn_database, "database"),
]


@pytest.mark.parametrize(("make_ill", "kind"), ILLNESSES, ids=lambda item: getattr(item, "__name__", item))
def test_each_illness_is_found_and_mended_and_no_result_is_lost(
    patient: Patient, capsys: pytest.CaptureFixture[str], make_ill: Callable[[Patient], None], kind: str
) -> None:
    rows, curves = patient.rows(), [patient.curve(number) for number in range(3)]
    make_ill(patient)
    forget_open_databases()
    status, answer = run(capsys, "doctor")
    assert status == 1 and not answer["sound"]
    assert kind in {finding["kind"] for finding in answer["findings"]}
    assert set(answer["findings"][0]) == {"kind", "where", "fix"}
    assert run(capsys, "doctor") == (status, answer), "looking changes nothing"
    forget_open_databases()
    status, answer = run(capsys, "doctor", "--fix")
    assert status == 0 and answer["sound"], answer
    assert run(capsys, "doctor") == (0, {"sound": True, "findings": []})
    forget_open_databases()
    patient.client = MlflowClient(tracking_uri=f"sqlite:///{patient.home}/mlflow.db")
    if make_ill in (interrupted, killed_at_once):
        assert patient.rows()[1][1] == "RUNNING", "the next start goes on with it"
    else:
        assert patient.rows() == rows
        assert [patient.curve(number) for number in range(3)] == curves


def test_a_healthy_folder_is_sound_and_left_alone(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "doctor", "--fix") == (0, {"sound": True, "findings": []})
    assert main(["doctor"]) == 0
    assert "no problems found" in capsys.readouterr().out


def test_a_half_made_optuna_database_is_moved_aside_and_its_runs_are_kept(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    half_made_optuna(patient)
    status, answer = run(capsys, "doctor", "--fix")
    assert status == 0, answer
    assert {finding["kind"] for finding in answer["findings"]} >= {"database", "no-study"}
    assert (patient.home / "optuna.db.broken").exists()
    assert study_names(f"sqlite:///{patient.home}/optuna.db") == []
    experiment = patient.client.get_experiment_by_name("toy").experiment_id
    assert len(patient.client.search_runs([experiment])) == 5


def test_tags_that_somebody_edited_and_single_runs_that_stay_deleted(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("harness.lost", "harness.driver"):
        patient.client.set_tag(patient.trials[0]["run_id"], key, "edited by hand")
    patient.client.delete_run(patient.single)
    assert run(capsys, "doctor", "--fix") == (0, {"sound": True, "findings": []})
