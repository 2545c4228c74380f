"""`harness forecast` and `prune-lab`, and the study that was drawn can be drawn again."""

import subprocess
from pathlib import Path

import pytest
from process_helpers import HARNESS, TOY, Workspace
from schemas import check

pytestmark = pytest.mark.slow


def test_a_forecast_creates_nothing(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    status, answer, err = here.run("forecast", TOY, "--trials", "3", "--workers", "2", "--price", "3600")
    assert status == 0, err
    check("forecast", answer)
    assert not (tmp_path / "mlruns").exists()
    assert answer["measured"] == answer["finished"] == 3, "a toy's trial ends while it is watched"
    assert answer["money"] == pytest.approx(answer["seconds"])
    assert answer["low"] < answer["seconds"] < answer["high"]
    status, answer, err = here.run("forecast", TOY, "--trials", "2", "--trainer.max_epochs", "100000")
    assert status == 0 and answer["finished"] == 0 and answer["trial_seconds"] > 60, err
    status, answer, err = here.run("forecast", TOY, "--trainer.max_epochs", "-1")
    assert status == 2 and "no end that is known before: give --trainer.max_epochs" in answer["error"]


def test_a_study_is_replayed(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    study = ["study", TOY, "--sampler", "tpe", "--no-test", "--enqueue", "model.learning_rate=0.1"]
    assert here.run(*study, "--trials", "9", "--workers", "2")[0] == 0
    assert here.run(*study, "--trials", "14")[0] == 0
    status, answer, err = here.run("prune-lab", "toy", "--seeds", "2")
    assert status == 0, err
    check("prune-lab", answer)
    assert answer["curves"] == 14 and (tmp_path / answer["picture"]).stat().st_size > 10_000
    shown = subprocess.run(
        [HARNESS, "prune-lab", "toy", "--pruners", "median,asha", "--samplers", "tpe", "--seeds", "1"],
        cwd=tmp_path,
        env=here.environment,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0 and "median" in shown.stdout and "hyperband" not in shown.stdout, shown.stderr
    assert "did you mean median?" in here.run("prune-lab", "toy", "--pruners", "medium")[1]["hint"]
    status, answer, err = here.run("replay", "toy")
    assert status == 0, err
    check("replay", answer)
    assert answer == {"study": "toy", "same": True, "drawn": 14, "difference": None, "not_drawn": []}
    assert here.run("replay", "toy", "--here")[0] == 2
