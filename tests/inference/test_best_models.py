"""best_first: champions, then the best value of the newest model's metric, then what has none."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studies.common.state_folder import StateFolder
from studies.inference import best_models
from studies.inference.best_models import best_first
from studies.protocol.events import Finished, Metrics
from studies.protocol.trial_spec import TrialSpec


def model(home: Path, run_id: str, age: int, value: float | None, **fields: Any) -> None:
    """A trial's folder with an empty checkpoint, `age` seconds old."""
    data = {"class_path": fields.pop("data", "datamodules.MNIST")}
    fields = {"metric": "val/accuracy", **fields}
    folder = home / "trials" / run_id
    (folder / "checkpoints").mkdir(parents=True)
    experiment = {"model": {"class_path": "a.B"}, "data": data, "trainer": {}}
    TrialSpec(run_id=run_id, experiment=experiment, seed=0, folder=str(folder), **fields).save()
    events = [Metrics(1, 0, {"val/accuracy": 1.0})]
    if value is not None:
        events += [Finished({f"best/{fields['metric']}": -1.0}), Finished({f"best/{fields['metric']}": value})]
    (folder / "events.jsonl").write_text("".join(f"{event.to_json()}\n" for event in events))
    checkpoint = folder / "checkpoints/best.ckpt"
    checkpoint.touch()
    os.utime(checkpoint, (1e9 - age, 1e9 - age))


def order(home: Path) -> list[str]:
    return [item.run_id for item in best_first(StateFolder(home, f"sqlite:///{home}/mlflow.db", ""))]


def test_the_best_of_the_newest_kind_comes_first(tmp_path: Path) -> None:
    model(tmp_path, "aa01", 1, 0.95)
    model(tmp_path, "aa02", 2, None)  # interrupted
    model(tmp_path, "aa03", 3, 0.97)
    model(tmp_path, "aa04", 4, 0.97)
    model(tmp_path, "bb01", 5, 0.2, metric="val/loss", direction="minimize")
    model(tmp_path, "bb02", 6, 0.1, metric="val/loss", direction="minimize")
    model(tmp_path, "cc01", 7, 0.99, data="datamodules.WordReversal")
    model(tmp_path, "dd01", 8, float("nan"))
    assert order(tmp_path) == ["aa03", "aa04", "aa01", "aa02", "dd01", "bb02", "bb01", "cc01"]


def test_champions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path, "aa01", 1, 0.99)
    model(tmp_path, "aa02", 2, 0.95)
    model(tmp_path, "aa03", 3, 0.96)
    names = {"aa02": "mine", "aa03": "yours", "ff00": "of a server"}
    registry = SimpleNamespace(models=SimpleNamespace(champions=lambda: names))
    monkeypatch.setattr(best_models, "tracking_of", lambda state_folder: registry)
    assert order(tmp_path) == ["aa03", "aa02", "aa01"]
    first, *_, last = best_first(StateFolder(tmp_path, "", ""))
    assert first.why() == "champion of yours, val/accuracy 0.96" and last.why() == "val/accuracy 0.99"


def test_broken_folders_are_left_out(tmp_path: Path) -> None:
    model(tmp_path, "aa01", 1, 0.9)
    model(tmp_path, "aa02", 2, 0.95)
    model(tmp_path, "aa03", 3, 0.99)
    (tmp_path / "trials/aa01/spec.json").write_text("{")
    (tmp_path / "trials/aa02/events.jsonl").write_text('{"kind": "finished", "summary": 3}\n')
    os.mkfifo(tmp_path / "trials/aa02/fifo")
    (tmp_path / "trials/aa03/events.jsonl").unlink()
    os.mkfifo(tmp_path / "trials/aa03/events.jsonl")
    assert order(tmp_path) == ["aa02", "aa03"]
    assert order(tmp_path / "absent") == []
