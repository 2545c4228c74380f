"""What the installed commands answer with --json fits their published schemas: successes and failures."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process_helpers import HARNESS, TOY, Workspace
from schemas import check

pytestmark = pytest.mark.slow


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a command whose exit status and form of answer are given, and checks its answer."""
    here = Workspace(tmp_path)

    def run(command: str, *arguments: str, status: int = 0, form: str = "answer") -> dict[str, Any]:
        found, answer, err = here.run(command, *arguments)
        assert found == status, err
        check(command, answer, form)
        return answer

    return run


def test_training_and_using_a_model(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    trained = ask("train", "one_neuron", "--trainer.max_epochs", "2")
    assert trained["failure"] is None and trained["status"] == "finished"
    model = trained["run_id"]
    (tmp_path / "points.csv").write_text("x1,x2\n0.5,-1\n")
    assert ask("predict", model, "points.csv")["predictions"][0]["probability"] <= 1
    assert "absent.csv" in ask("predict", model, "absent.csv", status=2, form="error")["error"]
    export = ["export", model, "--format", "safetensors", "--output", "neuron.safetensors"]
    ask(*export)
    ask(*export, status=2, form="error")

    server = subprocess.Popen(
        [HARNESS, "ui", "--no-open", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=Workspace(tmp_path).environment,
        cwd=tmp_path,
    )
    assert server.stdout is not None
    check("ui", json.loads(server.stdout.readline()))
    server.send_signal(signal.SIGINT)
    assert server.wait(60) in (0, 130)


def test_studies_and_what_is_done_with_them(ask: Callable[..., dict[str, Any]]) -> None:
    studied = ask("study", TOY, "--trials", "2")
    assert studied["best"] in [{k: t[k] for k in studied["best"]} for t in studied["trials"]]
    ask("extend", "toy", "--epochs", "1")
    assert ask("resume", studied["trials"][0]["run_id"], status=2, form="error")
    failed = ask("train", TOY, "--model.trouble", "raise", status=1)
    assert failed["status"] == "failed" and "the toy broke" in failed["failure"]
    ask("study", TOY, "--study-name", "broken", "--model.trouble", "raise", "--trials", "2", status=1)

    found = ask("runs")["runs"]
    assert {run["kind"] for run in found} == {"run", "study", "trial"}
    ask("compare", "latest", "best:toy")
    ask("report", "toy")
    assert ask("doctor")["sound"]
    assert ask("delete", "broken", failed["run_id"], "--yes")["studies"] == ["broken"]
    assert len(ask("gc", "--yes")["deleted"]) == 4


def test_what_the_doctor_finds(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    trained = ask("train", TOY)
    (tmp_path / "mlruns/trials" / trained["run_id"] / "spec.json").write_text("{")
    assert {item["kind"] for item in ask("doctor", status=1)["findings"]} == {"specification"}
