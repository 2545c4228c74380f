"""The command line in this process: parsing, exit codes, JSON, and every bad input a user can type.

Trials run in real child processes of a warm server that all these tests share.
"""

import csv
import io
import json
import os
import random
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import run
from mlflow import MlflowClient

from studies.cli import streams
from studies.cli.main import main


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "list")
    assert status == 0
    assert {"mnist_mlp", "reverse_gru"} <= {item["name"] for item in answer["experiments"]}
    assert main(["list"]) == 0
    assert "model.learning_rate" in capsys.readouterr().out


def test_train_is_tracked_completely(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer, err = run(capsys, "train", str(toy), "--seed", "3", "--trainer.max_epochs", "2")
    assert status == 0 and answer["status"] == "finished", err
    assert set(answer) == {"run_id", "status", "metrics", "failure", "wall_seconds"}
    assert {"val/loss", "test/loss", "best/val/loss"} <= set(answer["metrics"])
    run_ = client.get_run(answer["run_id"])
    assert run_.info.status == "FINISHED"
    assert run_.data.params["trainer.max_epochs"] == "2" and run_.data.params["seed"] == "3"
    assert run_.data.params["model.width"] == "1", "defaults too"
    files = {item.path for item in client.list_artifacts(answer["run_id"])}
    assert files == {"config.yaml", "log.txt", "pictures", "provenance", "checkpoints"}
    history = client.get_metric_history(answer["run_id"], "val/loss")
    assert [metric.step for metric in history] == [3, 7], "nothing is logged twice"
    assert [metric.step for metric in client.get_metric_history(answer["run_id"], "test/loss")] == [8]


def test_one_seed_one_result(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [run(capsys, "train", str(toy), "--seed", seed, "--no-test")[1]["metrics"] for seed in ("1", "1", "2")]
    losses = [metrics["val/loss"] for metrics in results]
    assert losses[0] == losses[1] != losses[2]
    assert "test/loss" not in results[0]


def test_a_study_resumes_and_agrees_with_mlflow(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer, err = run(capsys, "study", str(toy), "--trials", "2", "--workers", "2", "--no-test")
    assert status == 0 and [trial["number"] for trial in answer["trials"]] == [0, 1], err
    assert answer["test"] == {}
    status, answer, err = run(capsys, "study", str(toy), "--trials", "4")
    assert status == 0 and [trial["number"] for trial in answer["trials"]] == [0, 1, 2, 3]
    assert "resuming study toy: 2 of 4 trials are done" in err
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id])
    parents = [r for r in runs if r.data.tags["harness.kind"] == "study"]
    children = {r.info.run_id: r for r in runs if r.data.tags["harness.kind"] == "trial"}
    assert len(parents) == 1 and len(children) == 4
    assert all(r.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for r in children.values())
    for trial in answer["trials"]:
        child = children[trial["run_id"]]
        assert child.info.status == "FINISHED" and trial["state"] == "COMPLETE"
        assert child.data.metrics["best/val/loss"] == pytest.approx(trial["value"], rel=1e-7)
        for name, value in trial["params"].items():
            assert json.loads(child.data.params[name]) == value, "the sampled value is the logged one"
        assert int(child.data.metrics["best_step"]) % (32 // trial["params"]["data.batch_size"]) == 0, (
            "and the used one"
        )
    ranks = {r.data.tags["harness.rank"] for r in children.values()}
    assert ranks == {"1", "2", "3", "4"}
    assert children[answer["best"]["run_id"]].data.tags["harness.rank"] == "1"
    assert "test/loss" in children[answer["best"]["run_id"]].data.metrics
    assert sum("test/loss" in r.data.metrics for r in children.values()) == 1, "only the champion is tested"
    pictures = {item.path for item in client.list_artifacts(parents[0].info.run_id, "pictures")}
    assert {"pictures/history.png", "pictures/parallel_coordinates.png", "pictures/slices.png"} <= pictures
    champion = client.get_model_version_by_alias("toy", "champion")
    assert champion.tags["harness.run_id"] == answer["best"]["run_id"]


def test_the_status_table(home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Failed, pruned and finished trials: Optuna's state and MLflow's status agree row by row."""
    fails = ["study", str(toy), "--trials", "1", "--study-name", "fails", "--model.trouble", "raise"]
    status, answer, err = run(capsys, *fails)
    assert status == 1 and answer["status"] == "failed" and answer["best"] is None
    assert answer["trials"][0]["state"] == "FAIL" and "the toy broke" in err
    failed = client.get_run(answer["trials"][0]["run_id"])
    assert failed.info.status == "FAILED" and "the toy broke" in failed.data.tags["harness.error"]
    assert "traceback.txt" in {item.path for item in client.list_artifacts(failed.info.run_id)}

    pruned = ["study", str(toy), "--trials", "8", "--study-name", "pruned", "--pruner", "median", "--no-test"]
    status, answer, _ = run(capsys, *pruned)
    states = {trial["run_id"]: trial["state"] for trial in answer["trials"]}
    assert status == 0 and "PRUNED" in states.values() and "COMPLETE" in states.values()
    for run_id, state in states.items():
        run_ = client.get_run(run_id)
        expected = {"PRUNED": ("KILLED", "pruned"), "COMPLETE": ("FINISHED", None)}[state]
        assert (run_.info.status, run_.data.tags.get("harness.outcome")) == expected


def test_a_nan_fails_its_trial_and_the_study_continues(
    home: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = toy.read_text().replace("data.batch_size: [4, 8, 16]", "model.trouble: [none, nan]")
    toy.write_text(text)
    status, answer, _ = run(
        capsys, "study", str(toy), "--trials", "2", "--sampler", "grid", "--model.learning_rate=0.1"
    )
    assert status == 0
    assert sorted(trial["state"] for trial in answer["trials"]) == ["COMPLETE", "FAIL"]


def test_a_trial_that_hangs_has_failed_and_so_does_a_study_that_only_fails(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = [
        "study",
        str(toy),
        "--trials",
        "9",
        "--model.trouble",
        "hang",
        "--trial-timeout",
        "2",
        "--max-failures",
        "2",
    ]
    status, answer, err = run(capsys, *hangs)
    assert status == 1 and answer["status"] == "failed"
    assert [trial["state"] for trial in answer["trials"]] == ["FAIL", "FAIL"], "the rest was not run"
    assert "sent no event for 2 s" in err and "2 trials in a row have failed" in err
    failed = client.get_run(answer["trials"][0]["run_id"])
    assert failed.info.status == "FAILED" and "sent no event" in failed.data.tags["harness.error"]


def test_failed_trials_run_again_on_request(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["study", str(toy), "--trials", "2", "--no-test", "--model.trouble", "cured"]
    assert run(capsys, *study)[0] == 1
    (home / "trials" / "cured").touch()
    status, answer, _ = run(capsys, *study)
    assert [trial["state"] for trial in answer["trials"]] == ["FAIL", "FAIL"], "not without the option"
    status, answer, err = run(capsys, *study, "--retry-failed")
    assert status == 0, err
    assert [trial["state"] for trial in answer["trials"]] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    first, second, *again = answer["trials"]
    assert [trial["params"] for trial in again] == [first["params"], second["params"]]
    tags = client.get_run(again[0]["run_id"]).data.tags
    assert tags["harness.retry_of"] == "0"
    seeds = [client.get_run(trial["run_id"]).data.params["seed"] for trial in (first, again[0])]
    assert seeds[0] == seeds[1], "the same trial again"
    _, answer, _ = run(capsys, *study, "--retry-failed")
    assert len(answer["trials"]) == 4, "once is enough"


def test_trials_are_extended_in_their_own_runs_with_one_joined_curve(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["study", str(toy), "--trials", "2", "--no-test", "--study-name", "whole", "--trainer.max_epochs", "5"]
    _, longer, _ = run(capsys, *whole)
    _, before, _ = run(capsys, "study", str(toy), "--trials", "2", "--no-test")
    experiment = client.get_experiment_by_name("toy")
    status, after, err = run(capsys, "extend", "toy", "--top", "2", "--epochs", "+2")
    assert status == 0, err
    view = "mlflow.sharedViewState.harness"
    assert client.get_experiment_by_name("toy").tags[view] == experiment.tags[view], "it shows the same columns"
    assert [trial["run_id"] for trial in after["trials"]] == [trial["run_id"] for trial in before["trials"]]
    for trial, other in zip(after["trials"], longer["trials"], strict=True):
        assert (trial["state"], trial["value"]) == (other["state"], other["value"]), "as if never ended"
        for name in ("val/loss", "train/loss"):
            curves = [
                [(m.step, m.value) for m in client.get_metric_history(item["run_id"], name)] for item in (trial, other)
            ]
            assert curves[0] == curves[1]
        run_ = client.get_run(trial["run_id"])
        assert run_.info.status == "FINISHED" and run_.data.tags["harness.epochs"] == "5"
    assert main(["doctor"]) == 0
    status, _, err = run(capsys, "extend", "tooy", "--epochs", "1")
    assert status == 2 and "unknown study tooy; did you mean toy" in err
    # The study itself still knows when it is done.
    assert len(run(capsys, "study", str(toy), "--trials", "2")[1]["trials"]) == 2


def test_a_pruned_trial_is_extended_to_its_planned_end_and_beyond(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["study", str(toy), "--trials", "8", "--pruner", "median", "--no-test"]
    _, before, _ = run(capsys, *study)
    pruned = [trial for trial in before["trials"] if trial["state"] == "PRUNED"]
    assert pruned
    status, after, err = run(capsys, "extend", "toy", "--top", "8", "--epochs", "1", "--workers", "2", "--no-test")
    assert status == 0 and {trial["state"] for trial in after["trials"]} == {"COMPLETE"}, err
    for trial in pruned:
        run_ = client.get_run(trial["run_id"])
        assert run_.info.status == "FINISHED" and "harness.outcome" not in run_.data.tags
        epochs = [metric.value for metric in client.get_metric_history(trial["run_id"], "epoch")]
        assert sorted(set(epochs)) == [0, 1, 2, 3], "three planned, one more"
    assert main(["doctor"]) == 0


def test_a_dead_process_is_resumed_from_its_checkpoint(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(capsys, "train", str(toy))[1]
    status, answer, err = run(capsys, "train", str(toy), "--model.trouble", "kill", "--model.once", "true")
    assert status == 0 and "was killed by SIGKILL; resuming" in err
    assert answer["metrics"]["val/loss"] == whole["metrics"]["val/loss"], "as if undisturbed"
    for name in ("val/loss", "train/loss"):
        series = [[(m.step, m.value) for m in client.get_metric_history(r["run_id"], name)] for r in (whole, answer)]
        assert series[0] == series[1]
    status, answer, err = run(capsys, "train", str(toy), "--model.trouble", "kill")
    assert status == 1 and answer["status"] == "failed" and "5 times" in err


@pytest.mark.parametrize("name", ["MLP", "CNN", "GRUSeq2Seq"])
def test_killed_within_any_batch_and_resumed_equals_uninterrupted(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Final weights and all stored values equal those of an uninterrupted run."""
    words = toy.with_name("words.txt")
    words.write_text("\n".join(a + b + c for a in "abcde" for b in "fghi" for c in "jklm"))
    sizes = {"MLP": "{hidden_sizes: [16], dropout: 0.3}", "CNN": "{width: 4, depth: 2, dropout: 0.3}"}
    model = sizes.get(name, "{hidden_size: 12, num_layers: 2, dropout: 0.3}")
    data = "{class_path: toy.ToyImages}"
    if name == "GRUSeq2Seq":
        arguments = f"{{batch_size: 7, validation_size: 5, test_size: 5, words_file: {words}}}"
        data = f"{{class_path: datamodules.WordReversal, init_args: {arguments}}}"
    experiment = toy.with_name("killed.yaml")
    experiment.write_text(
        f"model: {{class_path: lightning_modules.{name}, init_args: {model}}}\ndata: {data}\n"
        "trainer: {max_epochs: 3, log_every_n_steps: 4}\nsearch: {metric: val/loss, direction: minimize, space: "
        "{model.learning_rate: [0.1]}}"
    )
    train = ["train", str(experiment), "--no-test"]

    def outcome(*arguments: str) -> tuple[Any, ...]:
        status, answer, err = run(capsys, *train, *arguments)
        assert status == 0, err
        checkpoint = torch.load(home / "trials" / answer["run_id"] / "checkpoints" / "last.ckpt", weights_only=True)
        names = [key for key in client.get_run(answer["run_id"]).data.metrics if not key.startswith(("system", "fit"))]
        curves = {key: [(m.step, m.value) for m in client.get_metric_history(answer["run_id"], key)] for key in names}
        return {key: value.tolist() for key, value in checkpoint["state_dict"].items()}, curves, err

    *whole, _ = outcome()
    chance = random.Random(name)
    for batch in chance.sample(range(1, 30), 3):
        killer = f"[{{class_path: toy.Killer, init_args: {{batch: {batch}}}}}]"
        *parts, err = outcome("--trainer.callbacks", killer)
        assert "was killed by SIGKILL; resuming" in err, batch
        assert parts == whole, batch


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_trials_resume(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    study = ["study", str(toy), "--trials", "2", "--model.seconds", "0.05", "--trainer.max_epochs", "6", "--no-test"]

    def interrupt_once_it_trains() -> None:
        for _ in range(600):
            threading.Event().wait(0.1)
            if any(b'"checkpoint"' in path.read_bytes() for path in home.glob("trials/*/events.jsonl")):
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=interrupt_once_it_trains)
    thread.start()
    got, answer, _ = run(capsys, *study)
    thread.join()
    assert got == status and answer["status"] == "interrupted"
    first = answer["trials"][0]
    assert first["state"] == "RUNNING"
    run_ = client.get_run(first["run_id"])
    assert (run_.info.status, run_.data.tags["harness.outcome"]) == ("KILLED", "interrupted")

    got, answer, _ = run(capsys, *study)
    assert got == 0 and [trial["state"] for trial in answer["trials"]] == ["COMPLETE", "COMPLETE"]
    assert answer["trials"][0]["run_id"] == first["run_id"], "the same trial, the same run"
    run_ = client.get_run(first["run_id"])
    assert run_.info.status == "FINISHED" and "harness.outcome" not in run_.data.tags
    steps = [metric.step for metric in client.get_metric_history(first["run_id"], "val/loss")]
    assert len(steps) == len(set(steps)) == 6, "nothing lost, nothing twice"


def test_a_timeout_stops_and_the_same_command_resumes(
    home: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["study", str(toy), "--trials", "3", "--model.seconds", "0.05", "--trainer.max_epochs", "9", "--no-test"]
    status, answer, _ = run(capsys, *study, "--timeout", "1")
    assert status == 0 and answer["status"] == "timeout" and len(answer["trials"]) < 3
    status, answer, _ = run(capsys, *study)
    assert status == 0 and [trial["state"] for trial in answer["trials"]] == ["COMPLETE"] * 3


def test_inline_and_local_agree_to_the_bit(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = []
    for name in ("local", "inline"):
        arguments = ["--study-name", name, "--executor", name, "--trials", "2", "--pruner", "median", "--no-test"]
        status, answer, _ = run(capsys, "study", str(toy), *arguments)
        assert status == 0
        values.append([(trial["value"], trial["params"]) for trial in answer["trials"]])
    assert values[0] == values[1]


def test_the_number_of_workers_changes_nothing(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = []
    for workers in ("1", "3"):
        arguments = ["--study-name", f"w{workers}", "--workers", workers, "--trials", "3", "--no-test"]
        _, answer, _ = run(capsys, "study", str(toy), *arguments)
        values.append([(trial["number"], trial["value"], trial["params"]) for trial in answer["trials"]])
    assert values[0] == values[1]


def test_runs_and_compare(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [run(capsys, "train", str(toy), "--seed", seed)[1]["run_id"] for seed in ("1", "2")]
    status, answer, _ = run(capsys, "runs", "--experiment", "toy")
    assert status == 0 and {item["run_id"] for item in answer["runs"]} == set(ids)
    assert {"run_id", "experiment", "study", "status", "params", "metrics"} <= set(answer["runs"][0])
    status, answer, _ = run(capsys, "compare", ids[0], ids[1][:8])
    assert status == 0 and [item["run_id"] for item in answer["runs"]] == ids
    assert main(["compare", *ids]) == 0
    shown = capsys.readouterr().out
    assert "seed" in shown and "model.width" not in shown, "only the parameters that differ"
    assert main(["runs"]) == 0
    assert ids[0][:8] in capsys.readouterr().out
    assert main(["compare", *ids, "--csv"]) == 0
    rows = {name: values for name, *values in csv.reader(io.StringIO(capsys.readouterr().out))}
    assert rows["run"] == ids and rows["seed"] == ["1", "2"] and "model.width" not in rows
    assert [float(value) for value in rows["val/loss"]] == [item["metrics"]["val/loss"] for item in answer["runs"]]
    status, answer, _ = run(capsys, "compare", "latest", ids[0], "--csv")
    assert status == 2 and "--csv and --json" in answer["error"]


def test_a_wide_comparison_is_in_blocks_and_no_value_is_cut(
    home: Path, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * 60
    ids = [run(capsys, "train", str(toy), "--name", f"{seed}{long}")[1]["run_id"] for seed in "abc"]
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["compare", *ids]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split() for line in lines if line.startswith("name ")]
    assert heads == [["name", f"a{long}", f"b{long}"], ["name", f"c{long}"]]
    assert max(map(len, lines)) <= 160


TYPED = [
    (["train", "mnist_mpl"], "did you mean mnist_mlp"),
    (["trian"], "did you mean train"),
    (["study", "TOY", "--trails", "3"], "did you mean --trials"),
    (["study", "TOY", "--trials", "0"], "trials must be at least 1, but got trials=0"),
    (["study", "TOY", "--trials", "many"], "invalid int value: 'many'"),
    (["study", "TOY", "--workers", "0"], "workers must be at least 1"),
    (["study", "TOY", "--threads", "0"], "threads must be at least 1"),
    (["study", "TOY", "--timeout", "-1"], "timeout must be at least 1"),
    (["study", "TOY", "--timeout", "nan"], "timeout must be at least 1"),
    (["study", "TOY", "--trial-timeout", "0"], "trial-timeout must be at least 1"),
    (["study", "TOY", "--max-failures", "0"], "max-failures must be at least 1"),
    (["study", "TOY", "--sampler", "tpee"], "did you mean tpe"),
    (["study", "TOY", "--pruner", "medain"], "did you mean median"),
    (["study", "TOY", "--sampler", "grid"], "the grid sampler needs a list or a step for model.learning_rate"),
    (["study", "TOY", "--study-name", "../x"], "study-name must be letters"),
    (["study", "TOY", "--executor", "locla"], "did you mean local"),
    (["study", "TOY", "--executor", "inline", "--workers", "2"], "workers must be 1 with the inline executor"),
    (["study", "TOY", "--model.learning_rate", "1", "--data.batch_size", "8"], "nothing to search"),
    (["study", "TOY", "--pack", "0"], "pack must be at least 1"),
    (["study", "TOY", "--pack", "many"], "invalid int value"),
    (["study", "TOY", "--pack", "2", "--executor", "inline"], "pack must be 1 with the inline executor"),
    (["train", "TOY", "--seed", "-1"], "seed must be"),
    (["train", "TOY", "--seed", "1.5"], "invalid int value"),
    (["train", "TOY", "--model.learning_rate"], "--model.learning_rate needs a value"),
    (["train", "TOY", "--model.learning_rate", "[1"], "broken YAML"),
    (["train", "TOY", "--model.learning_rate", "-0.1"], "learning_rate must be above 0"),
    (["train", "TOY", "--model.lerning_rate", "0.1"], "did you mean model.learning_rate"),
    (["train", "TOY", "--data.batch_size", "0"], "batch_size must be between 1 and the 32 points"),
    (["train", "TOY", "--data.batch_size", "64"], "batch_size must be between 1 and the 32 points"),
    (["train", "TOY", "--trainer.max_epochs", "x"], "trainer.max_epochs must be"),
    (["train", "TOY", "--model.class_path", "toy.Nothing"], "has no Nothing; did you mean"),
    (["train", "TOY", "--modle.learning_rate", "0.1"], "unknown argument --modle.learning_rate"),
    (["train"], "train needs either NAME or --from RUN"),
    (["list", "--model.a", "1"], "applies to train, study, resume, lr, batch-size and forecast"),
    (["runs", "--limit", "0"], "limit must be at least 1"),
    (["runs"], "no runs yet"),
    (["compare", "abc"], "no runs yet"),
    (["ui"], "no runs yet"),
    (["doctor"], "no runs yet"),
    (["extend", "toy", "--epochs", "0"], "epochs must be at least 1"),
    (["extend", "toy", "--epochs", "2", "--top", "0"], "top must be at least 1"),
    (["extend", "toy", "--epochs", "2"], "unknown study toy"),
    (["extend", "toy"], "the following arguments are required: --epochs"),
    (["ui", "--port", "0"], "port must be between 1 and 65535"),
]


@pytest.mark.parametrize(("argv", "said"), TYPED)
def test_bad_input_is_one_line_exit_2_and_nothing_created(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    status, answer, err = run(capsys, *[str(toy) if word == "TOY" else word for word in argv])
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("harness: ")]
    assert said in line
    assert set(answer) == {"error", "hint"}
    assert not empty_home.exists(), "nothing half-created"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("low: 1.0e-3, high: 0.5", "low: 0.5, high: 1.0e-3", "low must be below high"),
        ("model.learning_rate: {", "model.learning_rat: {", "unknown parameter model.learning_rat; did you mean"),
        ("metric: val/loss", "metric: val/lss", "unknown metric val/lss; did you mean val/loss"),
        ("[4, 8, 16]", "[4, 8, 64]", "data.batch_size=64: batch_size must be between"),
        ("low: 1.0e-3, high: 0.5", "low: -1.0, high: 0.5", "low must be above 0"),
        ("class_path: toy.Toy,", "class_path: toy.ToyData,", "is not a LightningModule"),
        ("class_path: toy.Toy,", "class_path: nowhere.Toy,", "does not import"),
        ("direction: minimize", "direction: minimise", "did you mean minimize"),
        ("search:\n", "search: {\n", "broken YAML"),
        ("description:", "descripton:", "did you mean description"),
    ],
)
def test_a_bad_experiment_file(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    text = toy.read_text()
    assert old in text
    toy.write_text(text.replace(old, new))
    status, _, err = run(capsys, "study", str(toy), "--trials", "2")
    assert status == 2 and said in err and "Traceback" not in err
    assert not empty_home.exists()


def test_the_users_bug_is_shown_with_its_traceback_and_nothing_created(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "train", str(toy), "--model.class_path", "toy.Broken")
    assert status == 1 and "broken on purpose" in err and "training_step" in err
    assert not empty_home.exists()


def test_a_study_of_the_same_name_with_another_space(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "study", str(toy), "--trials", "1", "--no-test")[0] == 0
    for change, said in (
        (["--data.batch_size", "8"], "a different space"),
        (["--trainer.max_epochs", "9"], "a different experiment"),
        (["--seed", "9"], "a different seed"),
    ):
        status, _, err = run(capsys, "study", str(toy), "--trials", "2", *change)
        assert status == 2 and said in err and "--study-name" in err
    text = toy.read_text()
    toy.write_text(text.replace("direction: minimize", "direction: maximize"))
    assert "a different direction" in run(capsys, "study", str(toy), "--trials", "2")[2]
    toy.write_text(text.replace("[4, 8, 16]", "[4, 8]"))
    assert "a different space" in run(capsys, "study", str(toy), "--trials", "2")[2]


def test_unusable_folders(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_home.mkdir()
    with sqlite3.connect(empty_home / "mlflow.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    status, _, err = run(capsys, "train", str(toy))
    assert status == 2 and "another program's database" in err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("HARNESS_HOME", str(empty_home / "new"))
    status, _, err = run(capsys, "train", str(toy))
    assert status == 2 and "tracking server http://127.0.0.1:9" in err
    assert not (empty_home / "new").exists()


def test_a_data_folder_that_cannot_be_used(
    empty_home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    status, _, err = run(capsys, "train", "mnist_mlp", "--data.data_dir", str(tmp_path / "file"))
    assert status == 2 and str(tmp_path / "file") in err and "Traceback" not in err
    assert not empty_home.exists()


def test_help_of_an_experiment(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(toy), "--help"]) == 0
    shown = capsys.readouterr().out
    for text in ("--seed", "--model.learning_rate", "step size of SGD, above 0", "--data.batch_size", "--trainer."):
        assert text in shown


def test_help_of_a_module_that_imports_lightning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is not installed; as in trials, pytorch_lightning is found under that name."""
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "of_lightning.py").write_text("import lightning as L\nclass Net(L.LightningModule):\n    pass\n")
    (tmp_path / "net.yaml").write_text("model: {class_path: of_lightning.Net}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "net.yaml", "--help"]) == 0
    assert "--trainer." in capsys.readouterr().out


@pytest.mark.parametrize(("metric", "shown"), [("val_loss", "val_loss 0.5"), ("val/loss", "val/loss 0.5")])
def test_the_best_value_is_listed_whatever_the_metric_is_called(
    home: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], metric: str, shown: str
) -> None:
    run_id = client.create_run(client.create_experiment("toy"), tags={"harness.kind": "run"}).info.run_id
    for name, value in ((f"best/{metric}", 0.5), ("best/step", 7.0), ("best/epoch", 3.0), ("best_step", 7.0)):
        client.log_metric(run_id, name, value)
    assert main(["runs"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(run_id[:8])]
    assert f"  {shown} " in f"{line} " and "step" not in line and "epoch" not in line


@pytest.mark.parametrize(("torch_is_there", "frozen"), [(False, True), (True, False)])
def test_exit_is_fast_unless_torch_would_complain(
    torch_is_there: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(streams.gc, "freeze", lambda: done.append("frozen"))
    monkeypatch.setattr(streams, "sys", SimpleNamespace(modules={"torch": None} if torch_is_there else {}))
    streams.leave()
    assert done == ["frozen"] * frozen


def test_runs_are_found_sorted_and_shown_in_columns(
    empty_home: Path, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for rate in ("0.2", "0.1"):
        arguments = ("train", str(toy), "--model.learning_rate", rate, "--no-test", "--executor", "inline")
        status, answer, err = run(capsys, *arguments)
        assert status == 0, err
        ids.append(answer["run_id"])
    status, answer, _ = run(capsys, "runs", "--where", "params.`model.learning_rate` = '0.2'")
    assert status == 0 and [item["run_id"] for item in answer["runs"]] == ids[:1]
    assert answer["runs"][0]["end_time"] >= answer["runs"][0]["start_time"]
    status, answer, _ = run(capsys, "runs", "--sort", "params.`model.learning_rate`")
    assert status == 0 and [item["run_id"] for item in answer["runs"]] == ids[::-1]
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["runs", "--columns", "learning_rate,val/loss"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "experiment", "name", "status", "learning_rate", "val/loss", "took", "started"]
    assert [row.split()[0] for row in rows[:2]] == [run_id[:8] for run_id in ids[::-1]]
    assert "learning_rate=0.1" in rows[0] and rows[0].split()[4] == "0.1"
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == "learning_rate", "it differs"
    for arguments, said in (
        (("--where", "what?"), "MLflow does not understand 'what?'"),
        (("--sort", "what is"), "MLflow does not understand 'what is'"),
        (("--columns", "lerning_rate"), "did you mean model.learning_rate?"),
        (("--columns", "loss"), "column loss is ambiguous: best/val/loss, train/loss, val/loss"),
    ):
        status, answer, _ = run(capsys, "runs", *arguments)
        assert status == 2 and said in f"{answer['error']}; {answer['hint']}", answer


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "--version")
    assert status == 0 and answer["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert main(["--version"]) == 0
    assert "mlflow " in capsys.readouterr().out


def test_quiet_prints_the_result_alone(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", str(toy), "--trials", "2", "--executor", "inline", "--no-test", "--quiet"]) == 0
    captured = capsys.readouterr()
    warnings = captured.err.splitlines()  # of the toy, whose splits are the same samples
    assert all(line.startswith("overlap: ") for line in warnings) and "2 complete" in captured.out
    assert main(["train", str(toy), "--executor", "inline", "-q", "--model.trouble", "raise"]) == 1
    captured = capsys.readouterr()
    assert "harness: RuntimeError: the toy broke" in captured.err
    assert not any(word in captured.err for word in ("opening MLflow", "FAIL in"))
