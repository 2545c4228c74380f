"""A search by several objectives with the installed command: the front, and everything that works with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mlflow import MlflowClient
from process_helpers import Workspace

import studies.cli

BY_BOTH = "search: {metrics: [val/roc_auc, parameters], directions: [maximize, minimize]}"
MOONS = ["--data.dataset", "moons", "--data.noise", "0.3"]


def study(folder: Path, trials: int, *more: str) -> list[str]:
    (folder / "both.yaml").write_text(BY_BOTH)
    return ["study", "tabular_classification", "--config", "both.yaml", "--trials", str(trials), "--no-test", *more]


def front_of(trials: list[dict[str, Any]]) -> set[int]:
    """By comparing each complete trial with each other one."""
    points = {
        trial["number"]: (trial["value"], -trial["further"]["parameters"])
        for trial in trials
        if trial["state"] == "COMPLETE"
    }
    return {
        number
        for number, (auc, size) in points.items()
        if not any(a >= auc and b >= size and (a, b) != (auc, size) for a, b in points.values())
    }


@pytest.mark.slow
@pytest.mark.parametrize("data", [[], MOONS])
def test_the_front_of_forty_trials_with_pruning_is_that_of_brute_force(tmp_path: Path, data: list[str]) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run(*study(tmp_path, 40, "--workers", "2", *data))
    assert status == 0, err
    trials, states = answer["trials"], [trial["state"] for trial in answer["trials"]]
    assert len(trials) == 40 and states.count("PRUNED") >= 5 and states.count("COMPLETE") >= 5
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert set(answer["front"]) == front_of(trials)
    champion = max((trial["value"], -trial["further"]["parameters"]) for trial in trials if trial["state"] != "PRUNED")
    assert (answer["best"]["value"], -answer["best"]["further"]["parameters"]) == champion
    assert answer["best"]["number"] == answer["front"][0]
    schema = json.loads((Path(studies.cli.__file__).parent / "schemas" / "study.json").read_text())
    Draft202012Validator(schema).validate(answer)
    sizes = {"[]": 0, "[16]": 1, "[32]": 2, "[32, 16]": 3}
    by_size = sorted({(sizes[str(t["params"]["model.hidden_sizes"])], t["further"]["parameters"]) for t in trials})
    assert [size for _, size in by_size] == sorted({size for _, size in by_size}), "one number for each architecture"
    if data:
        assert len(answer["front"]) >= 2, "there is something to trade off"
        for trial in trials:  # what no complete trial dominates is not pruned
            value, size = trial["value"], -trial["further"]["parameters"]
            others = [t for t in trials if t["state"] == "COMPLETE" and t["number"] != trial["number"]]
            assert trial["state"] == "COMPLETE" or any(
                other["value"] >= value and -other["further"]["parameters"] >= size for other in others
            )
    pictures = {path.name for path in workspace.home.glob("trials/*/artifacts/pictures/*.png")}
    assert {"pareto_front.png", "hypervolume.png"} <= pictures
    assert workspace.is_sound()


@pytest.mark.slow
def test_a_killed_driver_costs_nothing_and_every_command_works(tmp_path: Path) -> None:
    short = [*MOONS, "--trainer.max_epochs", "6"]
    found = []
    for name in ("steady", "killed"):
        (tmp_path / name).mkdir()
        workspace = Workspace(tmp_path / name)
        command = study(tmp_path / name, 12, *short)
        if name == "killed":
            running = workspace.start(*command)
            running.until(lambda: len(workspace.events("report")) > 20)  # noqa: B023
            running.kill()
            assert workspace.is_empty()
        status, answer, err = workspace.run(*command)
        assert status == 0, err
        found.append([{key: trial[key] for key in trial if key != "run_id"} for trial in answer["trials"]])
    assert found[0] == found[1] and len(answer["front"]) >= 2
    assert workspace.is_sound()

    client = MlflowClient(tracking_uri=workspace.uri)
    best = answer["best"]
    run = client.get_run(best["run_id"])
    assert run.data.metrics["best/val/roc_auc"] == pytest.approx(best["value"], rel=1e-6)  # the shortest float32
    assert run.data.tags["harness.rank"] == "1"
    assert run.data.metrics["best/parameters"] == best["further"]["parameters"]
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics["best/parameters"] == best["further"]["parameters"]
    assert parent.data.params["search.metrics"] == '["val/roc_auc", "parameters"]'

    status, extended, err = workspace.run(
        "extend", "tabular_classification", "--top", "1", "--epochs", "2", "--no-test"
    )
    assert status == 0, err
    assert set(extended["front"]) == front_of(extended["trials"])
    trial = extended["trials"][best["number"]]
    assert trial["value"] >= best["value"] and trial["further"] == best["further"]
    status, runs, err = workspace.run(
        "compare", "best:tabular_classification", f"tabular_classification/{best['number']}"
    )
    assert status == 0 and {"best/val/roc_auc", "best/parameters"} <= runs["runs"][0]["metrics"].keys()
    status, answer, err = workspace.run(*study(tmp_path / "killed", 13, *short))
    assert status == 0 and len(answer["trials"]) == 13
    assert answer["trials"][best["number"]] == trial, "the extension counts"
    assert workspace.is_sound()
    status, answer, err = workspace.run("study", "tabular_classification", "--trials", "13", *short)
    assert status == 2 and "exists with a different further" in answer["error"]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("{metrics: [val/roc_auc, parameters]}", "search.directions must list maximize or minimize for each of the 2"),
        ("{metrics: [val/roc_auc, paramters], directions: [maximize, minimize]}", "did you mean parameters?"),
        ("{metrics: [val/roc_auc, parameters], directions: [maximize, minimise]}", "did you mean minimize"),
        (
            "{metrics: [val/roc_auc, parameters], directions: [maximize, minimize], sampler: cmaes}",
            "sampler cmaes searches by one metric, but there are 2 (allowed: random, grid, tpe, gp, nsga2)",
        ),
        (
            "{metric: val/loss, metrics: [val/roc_auc, parameters], directions: [maximize, minimize]}",
            "search needs either metric and direction, or metrics and directions",
        ),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(tmp_path: Path, search: str, said: str) -> None:
    (tmp_path / "both.yaml").write_text(f"search: {search}")
    workspace = Workspace(tmp_path)
    status, _, err = workspace.run("study", "tabular_classification", "--config", "both.yaml")
    assert status == 2 and said in err.splitlines()[-1], err
    assert not workspace.home.exists() or not any(workspace.home.iterdir())
