"""`harness train --seeds` and `search.seeds`: the same runs as one by one, their mean, and nothing lost by a kill."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from mlflow import MlflowClient
from process_helpers import TOY, Workspace
from schemas import check

pytestmark = pytest.mark.slow
SEEDS = ["train", TOY, "--seeds", "4,7,9"]
SLOW = ["--model.seconds", "0.02", "--trainer.max_epochs", "6"]


def values(answer: dict[str, Any], metric: str = "best/val/loss") -> list[float]:
    return [run["metrics"][metric] for run in answer["seeds"]]


def test_each_seed_is_the_run_that_it_is_alone_and_the_parent_shows_their_mean(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run(*SEEDS)
    assert status == 0, err
    check("train", answer)
    assert [run["seed"] for run in answer["seeds"]] == [4, 7, 9]
    alone = [workspace.run("train", TOY, "--seed", seed)[1]["metrics"]["best/val/loss"] for seed in ("4", "7", "9")]
    assert values(answer) == alone
    summary = answer["metrics"]["best/val/loss"]
    assert summary["mean"] == pytest.approx(fmean(alone)) and summary["std"] == pytest.approx(stdev(alone))
    assert summary["low"] < summary["mean"] < summary["high"] and summary["seeds"] == 3
    client = MlflowClient(tracking_uri=workspace.uri)
    parent = client.get_run(answer["run_id"])
    assert parent.data.metrics["best/val/loss"] == pytest.approx(summary["mean"]) and "seed" not in parent.data.params
    assert parent.info.status == "FINISHED"
    names = {item.path for item in client.list_artifacts(answer["run_id"], "pictures")}
    assert "pictures/curves_with_bands.png" in names
    parents = [client.get_run(run["run_id"]).data.tags["mlflow.parentRunId"] for run in answer["seeds"]]
    assert parents == [answer["run_id"]] * 3
    assert workspace.is_sound()
    status, compared, err = workspace.run("compare", answer["run_id"], "latest", "--level", "val/loss<=1000")
    assert status == 0, err
    check("compare", compared)
    assert [[one["epochs"] for one in run["reached"]] for run in compared["runs"]] == [[1, 1, 1], [1]]
    status, answer, err = workspace.run("delete", answer["run_id"], "--yes")
    assert status == 0 and len(answer["deleted"]) == 4, err


def test_a_killed_driver_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "steady").mkdir()
    (tmp_path / "killed").mkdir()
    _, steady, _ = Workspace(tmp_path / "steady").run(*SEEDS, *SLOW)
    workspace = Workspace(tmp_path / "killed")
    command = workspace.start(*SEEDS, *SLOW)
    command.until(lambda: len(workspace.events("finished")) >= 1 and len(workspace.events("started")) >= 2)
    command.kill()
    parent = next(path.parent for path in workspace.home.glob("trials/*/seeds.json")).name
    assert workspace.is_sound("--fix")
    status, answer, err = workspace.run("resume", parent)
    assert status == 0, err
    assert answer["run_id"] == parent and values(answer) == values(steady)
    assert len(list(workspace.home.glob("trials/*"))) == 4
    assert workspace.is_sound()


def test_a_narrow_interval_ends_the_training(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("train", TOY, "--seeds", "8", "--until", "100")
    assert status == 0 and len(answer["seeds"]) == 3, err
    assert "narrow enough after 3 seeds" in err


def scored(workspace: Workspace, answer: dict[str, Any]) -> list[list[float]]:
    """The best values of each trial's runs."""
    client = MlflowClient(tracking_uri=workspace.uri)
    experiments = [item.experiment_id for item in client.search_experiments()]
    found = []
    for trial in answer["trials"]:
        below = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{trial['run_id']}'")
        runs = [client.get_run(trial["run_id"]), *below]
        found.append(sorted(run.data.metrics["best/val/loss"] for run in runs))
    return found


def test_a_point_is_scored_by_several_seeds_and_pruned_between_them(tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text("search: {seeds: 3, pruner: median}")
    found = []
    for name in ("steady", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        workspace = Workspace(folder)
        command = ["study", TOY, "--config", str(tmp_path / "three.yaml"), "--trials", "9", "--no-test"]
        command += ["--model.seconds", "0.005"]
        if name == "killed":
            running = workspace.start(*command)
            running.until(lambda: len(workspace.events("finished")) >= 5)  # noqa: B023
            running.kill()
            assert workspace.is_sound("--fix")
        status, answer, err = workspace.run(*command)
        assert status == 0, err
        runs = scored(workspace, answer)
        for trial, best in zip(answer["trials"], runs, strict=True):
            if trial["state"] == "COMPLETE":
                assert len(best) == 3 and trial["value"] == pytest.approx(fmean(best))
            else:
                assert trial["state"] == "PRUNED" and len(best) <= 2
        assert any(trial["state"] == "PRUNED" for trial in answer["trials"])
        assert workspace.is_sound()
        found.append(([(trial["state"], trial["value"]) for trial in answer["trials"]], runs))
    assert found[0] == found[1]
    status, answer, _ = workspace.run("extend", "toy", "--epochs", "1")
    assert status == 2 and "3 seeds" in answer["error"]
