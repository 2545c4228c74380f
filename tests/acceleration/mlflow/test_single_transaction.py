"""MLflow's calls in one transaction, compared with what another connection sees."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.utils import _get_store

from studies.acceleration import for_tracking
from studies.acceleration.mlflow import single_transaction
from studies.acceleration.mlflow.single_transaction import one_transaction
from studies.protocol.events import Metrics, Started
from studies.tracking.client import Tracking


@pytest.fixture
def tracking(home: Path) -> Tracking:
    return Tracking(f"sqlite:///{home}/mlflow.db", home / "artifacts", **for_tracking())


def of_runs(tracking: Tracking, what: str = "count(*)", table: str = "runs") -> list[Any]:
    """What another process sees."""
    with sqlite3.connect(tracking.uri.removeprefix("sqlite:///")) as connection:
        found = connection.execute(f"SELECT {what} FROM {table}").fetchall()
    connection.close()
    return [row[0] for row in found]


def commits_of(tracking: Tracking, work: Callable[[], Any]) -> int:
    commits: list[Any] = []
    listener = _get_store(tracking.uri).engine, "commit", lambda connection: commits.append(connection)
    sqlalchemy.event.listen(*listener)
    work()
    sqlalchemy.event.remove(*listener)
    return len(commits)


def test_no_partial_state_is_visible(tracking: Tracking) -> None:
    experiment = tracking.experiment("mine")
    client = MlflowClient(tracking.uri)
    with one_transaction(tracking.uri):
        run_id = client.create_run(experiment, run_name="a").info.run_id
        client.log_batch(run_id, [Metric("loss", 1.0, 1, 1)], [Param("rate", "1")], [RunTag("kind", "x")])
        client.set_terminated(run_id)
        assert of_runs(tracking) == [0]
        assert client.get_run(run_id).data.metrics == {"loss": 1.0}, "who writes reads what is not stored yet"
    assert of_runs(tracking, "status") == ["FINISHED"]
    run = client.get_run(run_id)
    assert (run.data.metrics, run.data.params, run.data.tags["kind"]) == ({"loss": 1.0}, {"rate": "1"}, "x")
    client.set_tag(run_id, "after", "y")
    assert client.get_run(run_id).data.tags["after"] == "y", "calls are what they were"


def test_all_or_nothing(tracking: Tracking) -> None:
    client = MlflowClient(tracking.uri)
    experiment = tracking.experiment("mine")
    with pytest.raises(MlflowException), one_transaction(tracking.uri):
        run_id = client.create_run(experiment).info.run_id
        client.log_batch(run_id, params=[Param("rate", "1")])
        client.log_batch(run_id, params=[Param("rate", "2")])  # MLflow rejects changed parameters
    assert of_runs(tracking) == [0]
    client.create_run(experiment)
    assert of_runs(tracking) == [1]


def test_another_thread_has_its_own_transaction(tracking: Tracking) -> None:
    client = MlflowClient(tracking.uri)
    experiment = tracking.experiment("mine")
    seen: list[Any] = []
    other = threading.Thread(target=lambda: seen.extend(client.search_runs([experiment])))
    with one_transaction(tracking.uri):
        client.create_run(experiment)
        other.start()
        other.join()
    assert (seen, of_runs(tracking)) == ([], [1])


def test_a_trial_is_two_transactions(tracking: Tracking) -> None:
    """A run's start with its parameters, and its end with the remaining data."""
    experiment = tracking.experiment("mine")
    runs: list[str] = []
    assert commits_of(tracking, lambda: runs.append(tracking.start(experiment, "a", {"rate": 1}, {"kind": "x"}))) == 1
    assert of_runs(tracking, "value", "params") == ["1"]
    tracking.log(runs[0], Started(1, "host", "cpu", {}))
    tracking.log(runs[0], Metrics(1, 0, {"loss": 1.0}))
    ends = commits_of(tracking, lambda: tracking.end(runs[0], "KILLED", "pruned"))
    run = tracking.run(runs[0])
    assert (run.status, run.metrics["loss"], run.tags["harness.outcome"]) == ("KILLED", 1.0, "pruned")
    assert (run.tags["harness.host"], ends) == ("host", 1)


def test_existing_rows_are_stored_once_and_new_ones_are_added(tracking: Tracking) -> None:
    """A driver that takes over sends a whole log again; then calls are made one by one."""
    run_id = tracking.start(tracking.experiment("mine"), "a", {}, {})
    for last in (3, 5):
        for step in range(last):
            tracking.log(run_id, Metrics(step, 0, {"loss": step / 2}, time=step))
        tracking.end(run_id, "FINISHED")
    history = MlflowClient(tracking.uri).get_metric_history(run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(step, step / 2) for step in range(5)]
    assert tracking.run(run_id).status == "FINISHED"


def test_failed_writes_are_retried_later(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = tracking.start(tracking.experiment("mine"), "a", {}, {})
    tracking.log(run_id, Metrics(1, 0, {"loss": 0.5}))
    monkeypatch.setattr(MlflowClient, "set_terminated", lambda *call: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(RuntimeError):
        tracking.end(run_id, "FINISHED")
    monkeypatch.undo()
    assert tracking.run(run_id).status == "RUNNING"
    tracking.end(run_id, "FINISHED")
    run = tracking.run(run_id)
    assert (run.status, run.metrics["loss"]) == ("FINISHED", 0.5)


def test_a_store_without_such_sessions_is_called_one_by_one_with_one_notice(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(tracking, "_notice", said.append)
    monkeypatch.setattr(single_transaction, "_get_store", lambda uri: object())  # another version of MLflow
    run_id = tracking.start(tracking.experiment("mine"), "a", {"rate": 1}, {})
    tracking.end(run_id, "FINISHED")
    assert (tracking.run(run_id).status, tracking.run(run_id).params) == ("FINISHED", {"rate": "1"})
    assert len(said) == 1 and said[0].startswith("MLflow is written call by call")
