"""`harness resume` and `harness train --from`: the same run to the bit, or a new one with its values."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from process_helpers import TOY, Workspace

IMAGES = str(Path(TOY).with_name("images.yaml"))
TRAIN = ["train", IMAGES, "--trainer.max_epochs", "40"]
NAMES = ("val/loss", "train/loss", "epoch", "test/loss")


def result(workspace: Workspace, run_id: str) -> tuple[Any, Any]:
    """All curves of a run, and its last weights."""
    curves = workspace.curves([{"run_id": run_id}], *NAMES)
    last = workspace.home / "trials" / run_id / "checkpoints" / "last.ckpt"
    return curves, torch.load(last, weights_only=False)["state_dict"]


def same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    status, answer, err = workspace.run(*TRAIN)
    assert status == 0, err
    found = result(workspace, answer["run_id"])
    assert all(found[0][:3])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9", "failed"])
def test_a_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, whole: tuple[Any, Any], how: str) -> None:
    workspace = Workspace(tmp_path)
    command = workspace.start(*TRAIN)
    command.until(lambda: len(workspace.events("checkpoint")) >= 3)
    if how == "failed":
        run_id = next(workspace.home.glob("trials/*")).name
        command.signal(signal.SIGINT)
        command.wait()
        # As if its code had raised after the last checkpoint.
        log = workspace.home / "trials" / run_id / "events.jsonl"
        lines = log.read_text().splitlines()
        assert '"stopped"' in lines[-1]
        failed = '{"kind": "failed", "error": "the code broke", "traceback": "", "time": 1.0}'
        log.write_text("\n".join([*lines[:-1], failed]) + "\n")
    elif how == "Ctrl-C":
        command.signal(signal.SIGINT)
        status, answer, err = command.wait()
        assert status == 130 and answer["status"] == "interrupted", err
        run_id = answer["run_id"]
    else:
        command.kill()
        assert workspace.is_empty()
        run_id = next(workspace.home.glob("trials/*")).name
    status, answer, err = workspace.run("resume", run_id[:6])
    assert status == 0 and answer["run_id"] == run_id and answer["status"] == "finished", err
    assert same(result(workspace, run_id), whole)
    client = MlflowClient(tracking_uri=workspace.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and "harness.outcome" not in run.data.tags
    assert len(client.search_runs([run.info.experiment_id])) == 1, "no new run"
    assert workspace.is_sound() and workspace.is_empty()


@pytest.mark.slow
def test_a_finished_run_trains_further_and_a_new_one_from_it_is_the_same_training(
    tmp_path: Path, whole: tuple[Any, Any]
) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("train", IMAGES, "--trainer.max_epochs", "38", "--seed", "0")
    assert status == 0, err
    run_id = answer["run_id"]
    status, answer, err = workspace.run("resume", run_id)
    assert status == 2 and "has finished: to train it further, give a later end" in answer["error"], answer
    assert "--trainer.max_epochs 39" in answer["error"]
    status, answer, err = workspace.run("resume", run_id, "--model.learning_rate", "0.5")
    assert status == 2 and f"`harness train --from {run_id[:8]} --model.learning_rate ...`" in answer["error"]
    status, answer, err = workspace.run("resume", run_id, "--trainer.max_epochs", "40")
    assert status == 0 and answer["run_id"] == run_id, err
    curves, weights = result(workspace, run_id)
    assert curves[:3] == whole[0][:3] and all(torch.equal(weights[name], whole[1][name]) for name in weights)

    status, answer, err = workspace.run("train", "--from", run_id[:8])
    assert status == 0 and answer["run_id"] != run_id, err
    assert same(result(workspace, answer["run_id"]), whole)
    client = MlflowClient(tracking_uri=workspace.uri)
    new, old = client.get_run(answer["run_id"]), client.get_run(run_id)
    assert new.info.experiment_id == old.info.experiment_id and new.data.tags["harness.from"] == run_id
    config = workspace.home / "trials" / run_id / "artifacts" / "config.yaml"
    status, answer, err = workspace.run("train", str(config), "--trainer.max_epochs", "1", "--no-test")
    assert status == 0, err
    assert client.get_run(answer["run_id"]).info.experiment_id == old.info.experiment_id
    assert workspace.is_sound()


@pytest.mark.slow
def test_a_trial_is_trained_again_by_the_command_on_its_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("study", TOY, "--trials", "2", "--no-test")
    assert status == 0, err
    trial = answer["trials"][1]
    client = MlflowClient(tracking_uri=workspace.uri)
    command = client.get_run(trial["run_id"]).data.tags["mlflow.source.name"]
    assert command == "harness train --from toy/1"
    path = workspace.home / "trials" / trial["run_id"] / "spec.json"
    written = json.loads(path.read_text())
    assert written.pop("name") == "toy"
    path.write_text(json.dumps(written))  # as in older versions: the name is MLflow's
    status, answer, err = workspace.run(*command.split()[1:], "--no-test")
    assert status == 0, err
    assert {item.name for item in client.search_experiments()} == {"Default", "toy"}
    again, before = ([{"run_id": found["run_id"]}] for found in (answer, trial))
    assert workspace.curves(again) == workspace.curves(before)
    status, answer, err = workspace.run("resume", trial["run_id"])
    assert status == 2 and "is trial 1 of study toy" in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resume", "abc"], "unknown run abc: `harness runs` lists them"),
        (["resume", "../x"], "unknown run ../x: `harness runs` lists them"),
        (["resume", "x", "--epochs", "3"], "unknown argument --epochs"),
        (["train"], "train needs either NAME or --from RUN"),
        (["train", TOY, "--from", "abc"], "train needs either NAME or --from RUN, not both"),
        (["train", "--from", "abc"], "unknown run abc"),
        (["train", "--from", "toy/1"], "unknown study toy"),
        (["train", "--from", "toy/x"], "unknown run toy/x"),
        (["train", "--from", "best:toy"], "unknown study toy"),
        (["resume", "latest"], "so there is no latest one"),
        (["predict", "latest", "x"], "so there is no latest one"),
        (["train", "--from", "abc", "--config", TOY], "--config overrides values of NAME"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run(*arguments)
    assert status == 2 and said in answer["error"] and len(err.splitlines()) == 1, (answer, err)
    assert not workspace.home.exists()


@pytest.mark.slow
def test_names_tags_and_notes_are_mlflows_own_and_searchable(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    told = ["--name", "first try", "--tag", "paper=ICML", "--note", "**why**"]
    for command in (
        ["train", TOY, *told, "--no-test"],
        ["train", TOY, "--model.learning_rate", "0.2", "--seed", "3", "--no-test"],
        ["study", TOY, "--trials", "1", "--no-test"],
        ["study", TOY, "--trials", "2", *told, "--no-test"],
    ):
        status, _, err = workspace.run(*command)
        assert status == 0, err
    client = MlflowClient(tracking_uri=workspace.uri)
    (experiment,) = (item.experiment_id for item in client.search_experiments() if item.name == "toy")
    found = client.search_runs([experiment], "tags.paper = 'ICML'", order_by=["attributes.start_time"])
    assert [run.info.run_name for run in found] == ["first try", "first try", "trial 1"]
    assert [run.data.tags.get("mlflow.note.content") for run in found] == ["**why**", "**why**", None]
    names = {run.info.run_name for run in client.search_runs([experiment])}
    assert names == {"first try", "learning_rate=0.2 seed=3", "trial 0", "trial 1"}
