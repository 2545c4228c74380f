"""What may change about a study and what a user may add to it, with the installed command."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from process_helpers import TOY, Workspace


@pytest.mark.slow
def test_a_study_grows_and_what_conflicts_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    study = ["study", TOY, "--no-test", "--trainer.max_epochs", "1"]
    status, before, err = workspace.run(*study, "--trials", "3")
    assert status == 0, err
    grown = tmp_path / "grown.yaml"
    grown.write_text("search: {space: {data.batch_size: [32, 4, 8, 16], model.learning_rate: {high: 0.9}}}")
    status, after, err = workspace.run(*study, "--trials", "12", "--config", str(grown))
    assert status == 0, err
    said = (
        "study toy goes on with a changed space: model.learning_rate is "
        '{"low": 0.001, "high": 0.9, "log": true} instead of {"low": 0.001, "high": 0.5, "log": true}; '
        "data.batch_size is [32, 4, 8, 16] instead of [4, 8, 16]"
    )
    assert err.count(said) == 1
    assert after["trials"][:3] == before["trials"]
    assert 32 in [trial["params"]["data.batch_size"] for trial in after["trials"][3:]]
    parent = MlflowClient(tracking_uri=workspace.uri).get_run(after["run_id"])
    history = parent.data.tags["harness.history"].splitlines()
    assert len(history) == 2 and history[0].endswith('instead of {"low": 0.001, "high": 0.5, "log": true}')
    config = workspace.home / "trials" / after["run_id"] / "artifacts" / "config.yaml"
    assert "data.batch_size: [32, 4, 8, 16]" in config.read_text()
    assert workspace.is_sound()

    status, again, err = workspace.run(*study, "--trials", "12", "--config", str(grown))
    assert status == 0 and "changed space" not in err and again["trials"] == after["trials"]
    status, again, err = workspace.run(*study, "--trials", "13", "--config", str(grown), "--sampler", "tpe")
    assert status == 0 and err.count("study toy goes on with another method: sampler is tpe instead of random") == 1
    parent = MlflowClient(tracking_uri=workspace.uri).get_run(after["run_id"])
    assert parent.data.tags["harness.history"].endswith("sampler is tpe instead of random")
    assert "sampler: tpe" in config.read_text()
    for text, name in (
        ("model.learning_rate: {log: false}", "model.learning_rate"),
        ("data.batch_size: [4, 8]", "data.batch_size"),
        ("model.width: [1, 2]", "model.width"),
    ):
        grown.write_text(f"search: {{space: {{{text}}}}}")
        status, answer, err = workspace.run(*study, "--trials", "13", "--config", str(grown))
        assert (
            status == 2 and f"a different space: {'a parameter cannot' if 'width' in name else name}" in answer["error"]
        )
        assert name in answer["error"] and len(err.strip().splitlines()[-1]) < 900
    status, again, err = workspace.run("extend", "toy", "--epochs", "1", "--no-test")
    assert status == 0, err


@pytest.mark.slow
def test_enqueued_trials_run_first_and_once_although_the_driver_is_killed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    study = ["study", TOY, "--no-test", "--model.seconds", "0.05", "--trials", "4"]
    study += ["--enqueue", "data.batch_size=16,model.learning_rate=0.25", "--enqueue", "data.batch_size=4"]
    running = workspace.start(*study)
    running.until(lambda: len(workspace.events("report")) > 3)
    running.kill()
    assert workspace.is_empty()
    status, answer, err = workspace.run(*study)
    assert status == 0 and "0 trials are enqueued; 2 were before" in err
    params = [trial["params"] for trial in answer["trials"]]
    assert len(params) == 4
    assert params[0] == {"data.batch_size": 16, "model.learning_rate": 0.25} and params[1]["data.batch_size"] == 4
    assert sum(item["model.learning_rate"] == 0.25 for item in params) == 1
    client = MlflowClient(tracking_uri=workspace.uri)
    tagged = [client.get_run(trial["run_id"]).data.tags.get("harness.enqueued") for trial in answer["trials"]]
    assert tagged == ["yes", "yes", None, None]
    status, answer, err = workspace.run(*study, "--enqueue", "data.batch_size=8")
    assert status == 0 and "5 trials with those that are enqueued, so more than --trials 4" in err
    assert len(answer["trials"]) == 5 and answer["trials"][4]["params"]["data.batch_size"] == 8
    assert workspace.is_sound()


@pytest.mark.slow
def test_the_results_of_another_study_inform_the_sampler_and_count_nowhere(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    short = ["--no-test", "--trainer.max_epochs", "1"]
    status, first, err = workspace.run("study", TOY, "--trials", "12", *short)
    assert status == 0, err
    second = ["study", TOY, "--study-name", "second", "--sampler", "tpe", "--seed", "5", *short]
    status, answer, err = workspace.run(*second, "--trials", "2", "--from-study", "toy")
    assert status == 0 and err.count("the sampler learns from 12 trials of study toy") == 1
    assert len(answer["trials"]) == 2 and answer["best"]["run_id"] in [trial["run_id"] for trial in answer["trials"]]
    parent = MlflowClient(tracking_uri=workspace.uri).get_run(answer["run_id"])
    assert parent.data.tags["harness.history"].endswith("its sampler learns from 12 trials of study toy")
    status, answer, err = workspace.run(*second, "--trials", "3")
    assert status == 0 and "the sampler learns from 12 trials of study toy" in err, "on later starts, too"
    assert len(answer["trials"]) == 3 and len(first["trials"]) == 12
    assert workspace.is_sound()
    for arguments, said in (
        (["--from-study", "tyo"], "unknown study tyo; did you mean toy?"),
        (["--from-study", "second"], "--from-study second is the study itself"),
        (["--from-study", "toy", "--sampler", "cmaes"], "--from-study needs a sampler that learns from it (tpe or gp)"),
        (["--enqueue", "data.batch_size=5"], "enqueue: data.batch_size must be one of [4, 8, 16], but got 5"),
        (["--enqueue", "data.bach_size=4"], "enqueue: unknown parameter data.bach_size; did you mean data.batch_size?"),
    ):
        status, answer, err = workspace.run(*second, *arguments)
        assert status == 2 and said in err.splitlines()[-1], err
