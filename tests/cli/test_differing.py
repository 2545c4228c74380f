"""`harness diff` of runs without models; tests/e2e/test_data.py has it with models."""

from __future__ import annotations

import pytest
from commands import run
from mlflow import MlflowClient
from schemas import check

from studies.cli.main import main


@pytest.fixture
def runs(client: MlflowClient) -> list[str]:
    ids = []
    for rate in ("0.1", "0.2"):
        run_id = client.create_run("0", tags={"harness.kind": "run", "mlflow.source.git.commit": "1" * 40}).info.run_id
        client.log_param(run_id, "model.rate", rate)
        ids.append(run_id)
    return ids


def test_runs_without_a_model_show_the_rest(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "diff", *runs)
    check("diff", answer)
    assert status == 0 and answer["parameters"] == [{"name": "model.rate", "a": "0.1", "b": "0.2"}]
    assert answer["predictions"] is None and "has no trained model" in answer["unpredicted"]
    assert main(["diff", *runs]) == 0
    out = capsys.readouterr().out
    assert "model.rate  0.1  0.2" in out and "the models cannot be compared: run" in out


def test_bad_input(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        ([runs[0], runs[0]], "are the same run"),
        ([*runs, "--split", "tset"], "split must be one of val, test"),
        ([*runs, "--output", "x.gif"], "output must be a .png file"),
        ([runs[0], "absent"], "absent"),
    ):
        status, answer, _ = run(capsys, "diff", *arguments)
        assert status == 2 and said in answer["error"], answer
