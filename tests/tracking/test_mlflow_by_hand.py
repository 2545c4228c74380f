"""Manual changes in MLflow's UI between commands, and arbitrary metric names from user code."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _get_store

from studies.protocol.events import Failed, Finished, Metrics
from studies.tracking.client import Tracking

STUDY = {"harness.kind": "study", "harness.study": "s"}


class Shown:
    """A Tracking with its notices."""

    def __init__(self, home: Path) -> None:
        self.said: list[str] = []
        self.tracking = Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts", notice=self.said.append)
        self.client = MlflowClient(tracking_uri=self.tracking.uri)
        self.experiment = self.tracking.experiment("mine")

    def start(self, **tags: str) -> str:
        return self.tracking.start(self.experiment, "trial 0", {"model.lr": 1}, tags)


@pytest.fixture
def shown(home: Path) -> Shown:
    return Shown(home)


def test_a_deleted_experiment_is_restored(shown: Shown) -> None:
    run_id = shown.start()
    shown.client.delete_experiment(shown.experiment)
    with pytest.raises(ValueError, match="experiment mine is deleted in MLflow"):
        shown.tracking.runs("mine")
    assert shown.tracking.runs() == []
    assert shown.tracking.experiment("mine") == shown.experiment
    assert shown.said == ["experiment mine was deleted in MLflow: it is restored, with its runs"]
    assert [run.run_id for run in shown.tracking.runs("mine")] == [run_id]


def test_an_experiment_deleted_a_moment_ago(shown: Shown) -> None:
    shown.client.delete_experiment(shown.experiment)
    run_id = shown.start()
    shown.client.delete_experiment(shown.experiment)
    shown.tracking.tag_experiment(shown.experiment, "a", "b")
    shown.client.delete_experiment(shown.experiment)
    shown.tracking.log_metrics(run_id, {"a": 1.0})
    assert [run.run_id for run in shown.tracking.runs("mine")] == [run_id]


@pytest.mark.parametrize("older", [False, True])
def test_a_renamed_experiment_is_continued(shown: Shown, older: bool) -> None:
    run_id = shown.start(**{"harness.experiment": "mine"})
    if older:
        shown.client.delete_experiment_tag(shown.experiment, "harness.experiment")
    shown.client.rename_experiment(shown.experiment, "archive")
    assert shown.tracking.experiment("mine") == shown.experiment
    assert shown.said == ["MLflow's experiment mine was renamed to archive; it is continued under that name"]
    for name in ("mine", "archive"):
        assert [(run.run_id, run.experiment) for run in shown.tracking.runs(name)] == [(run_id, "archive")]
    assert shown.tracking.experiment("another") != shown.experiment


def test_a_deleted_study_is_found_and_restored(shown: Shown) -> None:
    parent = shown.start(**STUDY)
    shown.client.delete_run(parent)
    assert shown.tracking.find_run(STUDY, shown.experiment) == parent
    shown.tracking.reopen(parent)
    assert shown.said == ["run trial 0 was deleted in MLflow: it is restored"]
    newer = shown.start(**STUDY)
    shown.client.delete_run(newer)
    assert shown.tracking.find_run(STUDY, shown.experiment) == parent, "what is not deleted comes first"


def test_events_of_a_deleted_run_are_stored(shown: Shown, tmp_path: Path) -> None:
    tracking, (run_id, sound) = shown.tracking, (shown.start(**STUDY), shown.start())
    (tmp_path / "log.txt").write_text("all is well")
    steps = [
        lambda: tracking.log_params(run_id, {"model.lr": 1, "more": 2}),
        lambda: tracking.log(run_id, Failed("ValueError: no", "Traceback: no")),
        lambda: tracking.set_tags(run_id, {"a": "b"}),
        lambda: tracking.delete_tag(run_id, "a"),
        lambda: tracking.log_table(run_id, {"rank": [1, float("inf")]}, "leaderboard.json"),
        lambda: tracking.log_files(run_id, tmp_path / "log.txt"),
        lambda: tracking.end(run_id, "FINISHED"),
    ]
    for step in steps:
        shown.client.delete_run(run_id)
        tracking.log(run_id, Metrics(1, 0, {"val/loss": 1.0}, time=1.0))
        tracking.log(sound, Metrics(1, 0, {"val/loss": 1.0}, time=1.0))
        step()
        tracking.flush()
    run = shown.client.get_run(run_id)
    assert run.info.lifecycle_stage == "active" and run.info.status == "FINISHED"
    assert run.data.metrics["val/loss"] == 1.0 and run.data.params == {"model.lr": "1", "more": "2"}
    assert shown.client.get_run(sound).data.metrics["val/loss"] == 1.0
    assert len(shown.said) == len(steps)


def test_a_permanently_deleted_run_stops_nothing(shown: Shown, home: Path) -> None:
    gone, sound = shown.start(), shown.start()
    _get_store(shown.tracking.uri)._hard_delete_run(gone)
    for run_id in (gone, sound):
        shown.tracking.log(run_id, Finished({"best/val/loss": 0.5}))
        shown.tracking.reopen(run_id)
    shown.tracking.flush()
    for run_id in (gone, sound):
        shown.tracking.end(run_id, "FINISHED")
    assert shown.client.get_run(sound).data.metrics == {"best/val/loss": 0.5}
    assert len(shown.said) == 1 and f"MLflow no longer has run {gone}" in shown.said[0]


def test_ranks_skip_deleted_runs(shown: Shown) -> None:
    deleted, sound = (shown.start(**{"harness.study": "s"}) for _ in range(2))
    shown.client.delete_run(deleted)
    shown.tracking.rank(shown.experiment, "s", {deleted: 1, sound: 2})
    assert shown.client.get_run(sound).data.tags["harness.rank"] == "2"
    assert shown.client.get_run(deleted).info.lifecycle_stage == "deleted"
    assert shown.said == [
        "the run of a trial is deleted in MLflow: the study has the results, `harness doctor --fix` restores the runs"
    ]


def test_ranks_that_are_written_are_not_compared_again_unless_a_run_was_deleted(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = shown.start(**STUDY)
    runs = [shown.start(**{"harness.study": "s", "harness.kind": "trial"}) for _ in range(3)]

    def rank(*order: int) -> int:
        """The number of runs that were read."""
        read: list[int] = []
        tagged = Tracking._tagged

        def counted(*arguments: Any, **more: Any) -> Any:
            found = tagged(shown.tracking, *arguments, **more)
            read.append(len(found))
            return found

        monkeypatch.setattr(shown.tracking, "_tagged", counted)
        shown.tracking.rank(shown.experiment, "s", {runs[index]: place for place, index in enumerate(order, start=1)})
        return sum(read)

    def ranks() -> list[str | None]:
        return [shown.client.get_run(run_id).data.tags.get("harness.rank") for run_id in runs]

    assert rank(0, 1) == 1 + 4 and ranks() == ["1", "2", None]
    assert rank(0, 1) == 1
    assert rank(1, 0) == 1 + 4 and ranks() == ["2", "1", None]
    assert rank(1, 2, 0) == 1 + 4 and ranks() == ["3", "1", "2"]
    assert rank(1, 2, 0) == 1
    shown.client.delete_run(runs[0])
    assert rank(1, 2, 0) == 1 + 1 + 3 and len(shown.said) == 1
    shown.client.restore_run(runs[0])
    assert rank(1, 2, 0) == 1 and shown.client.get_run(parent).data.tags["harness.ranked"]


def test_edited_tags_are_no_errors(shown: Shown) -> None:
    run_id = shown.start(**{"mlflow.loggedArtifacts": "not JSON"})
    shown.tracking.log_table(run_id, {"rank": [1]}, "leaderboard.json")
    assert '"type": "table"' in str(shown.tracking.tag(run_id, "mlflow.loggedArtifacts"))


@pytest.mark.parametrize("study", ["it's", "both ' and \"", "back`tick", "100%", "a\\b", "s' OR '1'='1"])
def test_a_study_of_any_name(shown: Shown, study: str) -> None:
    run_id = shown.start(**{"harness.study": study, "harness.kind": "trial"})
    shown.start(**{"harness.study": "another"})
    assert shown.tracking.find_run({"harness.study": study}, shown.experiment) == run_id
    assert shown.tracking.running(shown.experiment, study) == [run_id]
    assert [run.run_id for run in shown.tracking.runs(study=study)] == [run_id]
    shown.tracking.rank(shown.experiment, study, {run_id: 1})
    assert shown.tracking.tag(run_id, "harness.rank") == "1"


def test_parameters_logged_again(shown: Shown) -> None:
    run_id = shown.tracking.start(shown.experiment, "run", {"a": 10, "map": {"x": 1, "y": 2}, "lr": 0.1}, {})
    shown.tracking.log_params(run_id, {"a": 10.0, "map": {"y": 2, "x": 1}, "lr": 0.1, "new": True})
    assert shown.said == []
    shown.tracking.log_params(run_id, {"lr": 0.2, "new": True})
    run = shown.client.get_run(run_id)
    assert run.data.params == {"a": "10", "map": '{"x": 1, "y": 2}', "lr": "0.1", "new": "true"}
    assert run.data.tags["harness.now.lr"] == "0.2" and len(shown.said) == 1


def test_anything_user_code_logs_is_stored(shown: Shown) -> None:
    odd = ["", "../up", "/abs", "val//double", "x" * 300, "b\udce4r"]
    run_id = shown.tracking.start(
        shown.experiment, "trial \udce4", dict.fromkeys(odd, "\udce4 \0"), {"harness.study": "\udce4"}
    )
    shown.tracking.log(run_id, Metrics(1, 0, {**dict.fromkeys(odd, 1.0), "none": None}))  # type: ignore[dict-item]
    shown.tracking.log(run_id, Failed("no file b\udce4r.png", "Traceback \udce4 \0 " + "9" * 5_000_000))
    shown.tracking.end(run_id, "FAILED")
    run = shown.client.get_run(run_id)
    assert run.info.status == "FAILED" and len(run.data.metrics) == len(odd) + 1
    assert run.data.tags["harness.error"] == "no file b\\udce4r.png"
    assert shown.said == []
