"""Studies whose trials are packed, from the command line."""

import json
from collections import Counter
from pathlib import Path

import pytest
from commands import run
from mlflow import MlflowClient

from studies.driver import packing


def test_packed_trials_are_ordinary_trials(
    home: Path, toy: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PACKING_PAYS", 0.0)  # the speed-up is not tested here
    images = str(toy.with_name("images.yaml"))
    often = ["--trainer.callbacks", "[]", "--trainer.log_every_n_steps", "5", "--no-test", "--pruner", "none"]
    how = [images, *often, "--trials", "5"]
    status, alone, err = run(capsys, "study", *how, "--study-name", "alone")
    assert status == 0, err
    status, packed, err = run(capsys, "study", *how, "--study-name", "packed", "--pack", "3")
    assert status == 0 and "up to 3 trials are packed" in err
    pids = []
    for one, other in zip(packed["trials"], alone["trials"], strict=True):
        assert one["params"] == other["params"] and one["state"] == other["state"] == "COMPLETE"
        assert one["value"] == pytest.approx(other["value"], abs=1e-4)
        child = client.get_run(one["run_id"])
        assert child.info.status == "FINISHED"
        history = client.get_metric_history(one["run_id"], "train/loss")
        assert [metric.step for metric in history] == list(range(4, 52, 5))
        assert {item.path for item in client.list_artifacts(one["run_id"])} >= {"log.txt", "pictures", "checkpoints"}
        log = home / "trials" / one["run_id"] / "events.jsonl"
        pids.append(json.loads(log.read_text().splitlines()[0])["pid"])
    # Which trials share a process depends on when each is asked for; that some do, and at most three, does not.
    assert max(Counter(pids).values()) in (2, 3)


def test_unpackable_trials_run_one_by_one(home: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, err = run(capsys, "study", str(toy), "--trials", "2", "--pack", "2", "--no-test")
    assert status == 0 and len(answer["trials"]) == 2
    assert "trials are not packed: DataLoader may draw from random states" in err
