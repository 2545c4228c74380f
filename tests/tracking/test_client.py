import json
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import FileInfo

from lightning_modules import GRUSeq2Seq
from studies.acceleration.mlflow.local_artifacts import place
from studies.protocol.events import Failed, Finished, Metrics, Params, Resources, Started, Tags
from studies.protocol.metric_names import TAG_LENGTH
from studies.tracking.client import Tracking
from studies.tracking.model_registry import _global_uri


@pytest.fixture
def tracking(home: Path) -> Tracking:
    return Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts")


def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.uri)


def test_a_run_from_start_to_end(tracking: Tracking) -> None:
    experiment = tracking.experiment("mine")
    assert tracking.experiment("mine") == experiment
    params = {f"model.p{i}": i for i in range(150)} | {"model.hidden_sizes": [1, 2], "model.on": None}
    run_id = tracking.start(experiment, "trial 0", params, {"harness.kind": "trial", "harness.study": "s"})
    assert tracking.running(experiment, "s") == [run_id]
    tracking.log(run_id, Started(1, "host", "cpu", {"torch": "2"}))
    tracking.log(run_id, Metrics(10, 0, {"val/loss": 0.5}, time=100.0))
    tracking.log(run_id, Metrics(20, 1, {"val/loss": 0.25}, time=101.0))
    tracking.log(run_id, Resources(0, {"system/process_memory_megabytes": 9.0}))
    tracking.log(run_id, Finished({"best/val/loss": 0.25, "test/loss": 0.3}))
    tracking.end(run_id, "FINISHED")
    run = client(tracking).get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.params["model.hidden_sizes"] == "[1, 2]"
    assert len(run.data.params) == 152
    history = client(tracking).get_metric_history(run_id, "val/loss")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(10, 0.5, 100_000), (20, 0.25, 101_000)]
    assert [(m.step, m.value) for m in client(tracking).get_metric_history(run_id, "epoch")] == [(10, 0), (20, 1)]
    assert run.data.metrics["best/val/loss"] == 0.25
    assert run.data.tags["harness.host"] == "host" and run.data.tags["harness.version.torch"] == "2"
    assert "test/loss" not in run.data.metrics, "it came as a metric of its own step"
    assert tracking.running(experiment, "s") == []


@pytest.mark.parametrize("accelerated", [False, True], ids=["plain", "accelerated"])
def test_files_of_the_trials_folder_are_its_artifacts_and_need_no_copies(home: Path, accelerated: bool) -> None:
    """The path of the state folder may be another one, through a link."""
    (home / "trials").mkdir(parents=True)
    alias = home.parent / "alias"
    alias.symlink_to(home)
    tracking = Tracking(f"sqlite:///{home}/mlflow.db", home / "trials", place=place if accelerated else None)
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    folder = home / "trials" / run_id
    (folder / "artifacts" / "pictures").mkdir(parents=True)
    (folder / "artifacts" / "pictures" / "loss.png").write_bytes(b"png")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"best")
    before = (folder / "artifacts" / "pictures" / "loss.png").stat()
    for top in (folder, alias / "trials" / run_id):
        tracking.log_files(run_id, top / "artifacts")
        tracking.log_files(run_id, top / "artifacts" / "pictures", "pictures")
        tracking.log_files(run_id, top / "artifacts" / "pictures" / "loss.png", "pictures")
        tracking.log_files(run_id, top / "checkpoints" / "best.ckpt", "checkpoints")
    assert tracking.files(run_id) == {"pictures/loss.png": 3, "checkpoints/best.ckpt": 4}
    assert (folder / "artifacts" / "pictures" / "loss.png").stat() == before


def test_what_user_code_logs_never_replaces_what_the_harness_did(tracking: Tracking) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {"seed": 3}, {"harness.kind": "trial"})
    tags = {"mine": "x" * 9000, "harness.kind": "y", "mlflow.parentRunId": "z", "mlflow.note.content": "note"}
    for event in (Params({"seed": "4", "bad?name": "5"}), Params({"seed": "5", "same": "6"}), Tags(tags)):
        for _ in range(2):  # a driver that takes over reads the log again
            tracking.log(run_id, event)
    data = client(tracking).get_run(run_id).data
    assert data.params == {"seed": "3", "logged.seed": "4", "bad_name": "5", "same": "6"}
    assert data.tags["harness.kind"] == "trial" and data.tags["logged.harness.kind"] == "y"
    assert "mlflow.parentRunId" not in data.tags and data.tags["logged.mlflow.parentRunId"] == "z"
    assert data.tags["mlflow.note.content"] == "note" and len(data.tags["mine"]) == TAG_LENGTH


def test_the_epoch_is_lightnings_and_is_added_only_to_logs_of_earlier_versions(tracking: Tracking) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    tracking.log(run_id, Metrics(1, 0, {"a": 1.0}))
    tracking.log(run_id, Metrics(2, 1, {"a": 1.0, "epoch": 2.0}, done=3, batch=3))
    tracking.log(run_id, Metrics(7, 1, {"mine": 1.0}, done=3, batch=3))
    tracking.flush()
    assert [(m.step, m.value) for m in client(tracking).get_metric_history(run_id, "epoch")] == [(1, 0), (2, 2)]


def test_an_event_sent_again_is_stored_once(tracking: Tracking) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    for _ in range(2):
        for step in range(1500):  # more than one batch
            tracking.log(run_id, Metrics(step, 0, {"a": step / 2}, time=step))
        tracking.flush()
    assert len(client(tracking).get_metric_history(run_id, "a")) == 1500


def test_ranks_are_written_where_they_have_changed(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tracking.experiment("mine")
    tags = {"harness.study": "s", "harness.kind": "trial"}
    first, second, third = (tracking.start(experiment, f"trial {number}", {}, tags) for number in range(3))
    tracking.rank(experiment, "s", {first: 1, second: 2})
    written = []
    monkeypatch.setattr(MlflowClient, "set_tag", lambda self, run_id, key, value: written.append((run_id, value)))
    tracking.rank(experiment, "s", {first: 1, third: 2, second: 3})
    assert written == [(third, "2"), (second, "3")]
    assert client(tracking).get_run(second).data.tags["harness.rank"] == "2"


def test_nan_metrics_are_stored(tracking: Tracking) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    tracking.log(run_id, Metrics(1, 0, {"a": float("nan"), "b": float("inf")}))
    tracking.end(run_id, "FINISHED")
    metrics = tracking.run(run_id).metrics
    assert metrics["a"] != metrics["a"] and metrics["b"] > 1e300


def test_a_failure_carries_its_traceback(tracking: Tracking) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    tracking.log(run_id, Failed("ValueError: no", "Traceback: no"))
    tracking.end(run_id, "FAILED", "failed")
    run = client(tracking).get_run(run_id)
    assert run.info.status == "FAILED" and run.data.tags["harness.error"] == "ValueError: no"
    assert [item.path for item in client(tracking).list_artifacts(run_id)] == ["traceback.txt"]


def test_files_and_table(tracking: Tracking, tmp_path: Path) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "run", {}, {})
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / "a.png").write_bytes(b"png")
    tracking.log_files(run_id, tmp_path / "out")
    tracking.log_files(run_id, tmp_path / "absent.txt")
    for rows in ([1], [1, 2]):  # rewritten each time, not appended
        tracking.log_table(run_id, {"rank": rows}, "leaderboard.json")
    assert {item.path for item in client(tracking).list_artifacts(run_id)} == {"pictures", "leaderboard.json"}
    table = json.loads(Path(client(tracking).download_artifacts(run_id, "leaderboard.json")).read_text())
    assert table == {"columns": ["rank"], "data": [[1], [2]]}
    assert '"type": "table"' in client(tracking).get_run(run_id).data.tags["mlflow.loggedArtifacts"]


def test_an_empty_artifact_has_no_bytes(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server omits a size of 0 in its response."""
    listed = [FileInfo("provenance/diff.patch", False, None), FileInfo("log.txt", False, 7)]
    monkeypatch.setattr(MlflowClient, "list_artifacts", lambda self, run_id, path=None: listed)
    assert tracking.files("any") == {"provenance/diff.patch": 0, "log.txt": 7}


def test_reading_runs(tracking: Tracking) -> None:
    first = tracking.start(tracking.experiment("mine"), "one", {"model.a": 1}, {"harness.study": "s"})
    second = tracking.start(tracking.experiment("other"), "two", {}, {})
    assert {run.run_id for run in tracking.runs()} == {first, second}
    assert [run.run_id for run in tracking.runs("mine", "s")] == [first]
    assert tracking.run(first).to_json()["params"] == {"model.a": "1"}
    with pytest.raises(ValueError, match="did you mean mine"):
        tracking.runs("mien")
    with pytest.raises(ValueError, match="unknown run 0000"):
        tracking.run("0" * 32)
    assert tracking.find_run({"harness.study": "s"}, tracking.experiment("mine")) == first
    assert tracking.find_run({"harness.study": "t"}, tracking.experiment("mine")) is None


def test_a_database_of_another_version_is_one_line(home: Path) -> None:
    import sqlite3

    with sqlite3.connect(home / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    with pytest.raises(ValueError, match="cannot be used") as caught:
        Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:contextlib")  # from torch's own cells
def test_a_published_model_accepts_variable_sizes(tracking: Tracking) -> None:
    torch.manual_seed(0)
    module = GRUSeq2Seq(hidden_size=3, vocab_size=6, max_length=3).eval()
    run_id = tracking.start(tracking.experiment("mine"), "study", {}, {})
    example = torch.randint(3, 6, (2, 3))
    with torch.no_grad():
        version = tracking.models.publish_model(
            run_id, module, example, {0: "batch", 1: "length"}, "mine", ["torch"], {"a": "b"}
        )
    assert tracking.models.version_of("mine", {"a": "b"}) == version == 1
    with _global_uri(tracking.uri):
        published = mlflow.pyfunc.load_model("models:/mine/1")
    assert published.metadata.signature.inputs.inputs[0].shape == (-1, -1)
    for rows, length in ((1, 1), (2, 3), (5, 2)):
        source = torch.randint(3, 6, (rows, length))
        assert published.predict(source.numpy()).tolist() == module(source).tolist()
