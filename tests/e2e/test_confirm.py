"""`harness confirm` with the installed command: fresh seeds, the winner alone is tested, a kill costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from process_helpers import TOY, Workspace
from schemas import check

pytestmark = pytest.mark.slow
CONFIRM = ["confirm", "toy", "--top", "2", "--seeds", "10"]
BAD_DEFAULTS = "model: {class_path: toy.Toy, init_args: {learning_rate: 0.0001}}"


def studied(folder: Path) -> Workspace:
    folder.mkdir()
    (folder / "bad.yaml").write_text(BAD_DEFAULTS)
    workspace = Workspace(folder)
    status, _, err = workspace.run("study", TOY, "--config", "bad.yaml", "--trials", "6", "--no-test")
    assert status == 0, err
    return workspace


def test_a_better_configuration_is_confirmed_tested_and_registered(tmp_path: Path) -> None:
    workspace = studied(tmp_path / "a")
    status, answer, err = workspace.run(*CONFIRM)
    assert status == 0, err
    check("confirm", answer)
    winner = answer["winner"]
    assert winner is not None and answer["verdict"].startswith(f"{winner} beats defaults"), answer["verdict"]
    names = [item["name"] for item in answer["configurations"]]
    assert len(names) == 3 and names[-1] == "defaults"
    client = MlflowClient(tracking_uri=workspace.uri)
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{answer['run_id']}'")
    tested = {run.data.tags["harness.configuration"] for run in runs if "test/loss" in run.data.metrics}
    assert tested == {winner}, "the others never meet the test set"
    assert answer["test"]["test/loss"]["seeds"] == 10
    seeds = {run.data.tags["harness.seed"] for run in runs}
    searched = client.search_runs(experiments, "tags.`harness.kind` = 'trial'")
    assert len(seeds) == 10 and not seeds & {run.data.params["seed"] for run in searched}
    version = client.get_model_version_by_alias("toy", "champion")
    assert version.tags["harness.run_id"] in {run.info.run_id for run in runs}
    assert "beats defaults" in version.description and "95% interval" in version.description
    assert workspace.is_sound()
    before = answer["comparisons"]
    status, answer, err = workspace.run(*CONFIRM)
    assert status == 0 and answer["comparisons"] == before, "looking again at the same values is no new look"
    status, answer, err = workspace.run(*CONFIRM[:-1], "12")
    assert status == 0, err
    assert {item["comparisons"] for item in answer["comparisons"] if item["b"] == "defaults"} == {4}, "two looks"
    assert len(client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{answer['run_id']}'")) <= 36
    assert json.loads(client.get_run(answer["run_id"]).data.tags["harness.looks"])[0]["seeds"] == 10
    status, answer, err = workspace.run("delete", "toy", "--yes")
    assert status == 0, err
    assert not client.search_runs(experiments, "tags.`harness.study` = 'toy'")


def test_a_killed_driver_costs_nothing(tmp_path: Path) -> None:
    _, steady, _ = studied(tmp_path / "steady").run(*CONFIRM, "--no-test")
    workspace = studied(tmp_path / "killed")
    trials = len(workspace.events("finished"))
    command = workspace.start(*CONFIRM, "--no-test")
    command.until(lambda: len(workspace.events("finished")) >= trials + 4)
    command.kill()
    assert workspace.is_sound("--fix")
    status, answer, err = workspace.run(*CONFIRM, "--no-test")
    assert status == 0, err
    for name in ("configurations", "comparisons", "verdict", "winner"):
        assert answer[name] == steady[name]
    assert workspace.is_sound()
