"""The installed `harness`, in a temporary folder, as for a user."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from process_helpers import TOY, Workspace

HARNESS = Path(sys.executable).parent / "harness"

MODULE = '''
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Blobs(LightningDataModule):
    """Two clouds of points."""

    def __init__(self, batch_size: int = 16, spread: float = 0.5):
        super().__init__()
        self.batch_size = batch_size
        labels = torch.arange(64) % 2
        points = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) * spread + labels[:, None] * 3.0
        self.data = TensorDataset(points, labels)

    def train_dataloader(self):
        return DataLoader(self.data, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, 64)

    test_dataloader = val_dataloader


class Perceptron(LightningModule):
    """One linear layer."""

    def __init__(self, learning_rate: float = 0.1):
        super().__init__()
        self.learning_rate = learning_rate
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def test_step(self, batch, batch_idx):
        self.log("test/accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)
'''

EXPERIMENT = """
description: my own
model: {class_path: mine.blobs.Perceptron, init_args: {learning_rate: 0.5}}
data: {class_path: mine.blobs.Blobs}
trainer: {max_epochs: 10}
search:
  metric: val/accuracy
  space: {model.learning_rate: {low: 0.1, high: 1.0, log: true}, data.batch_size: [8, 16]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's folder, with a package and folders named like ours."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "blobs.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    for name in ("studies", "datamodules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    return tmp_path


def harness(place: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HARNESS_", "MLFLOW_"))}
    result = subprocess.run(
        [str(HARNESS), *arguments, "--json"], cwd=place, capture_output=True, text=True, env=environment
    )
    lines = result.stdout.splitlines()
    return result.returncode, json.loads(lines[-1]) if lines else {}, result.stderr


def test_a_custom_experiment_from_an_empty_folder_to_a_champion(place: Path) -> None:
    status, answer, err = harness(place, "train", "own.yaml")
    assert status == 0 and answer["metrics"]["test/accuracy"] > 0.9, err
    status, answer, err = harness(place, "study", "own.yaml", "--trials", "3", "--workers", "2")
    assert status == 0 and len(answer["trials"]) == 3, err
    assert answer["best"]["value"] == max(trial["value"] for trial in answer["trials"] if trial["state"] == "COMPLETE")
    assert {path.name for path in (place / "mlruns").iterdir()} >= {"mlflow.db", "optuna.db", "trials"}
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(place) in str(process.info["cmdline"])]

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("own")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 1 + 3 and {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    (single,) = (run for run in runs if run.data.tags["harness.kind"] == "run")
    (study,) = (run for run in runs if run.data.tags["harness.kind"] == "study")
    trials = [run for run in runs if run.data.tags["harness.kind"] == "trial"]
    (shared,) = {run.data.tags["harness.provenance"] for run in trials}
    for run, folder in ((single, "provenance"), (study, shared)):
        files = {item.path for item in client.list_artifacts(run.info.run_id, folder)}
        assert {f"{folder}/command.txt", f"{folder}/packages.txt"} <= files

    predict = (
        "import mlflow, torch; model = mlflow.pytorch.load_model('models:/own@champion');"
        "print(model(torch.tensor([[0.0, 0.0], [3.0, 3.0], [3.0, 2.0]])).argmax(1).tolist())"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlruns/mlflow.db"}
    result = subprocess.run([sys.executable, "-c", predict], capture_output=True, text=True, env=environment, cwd="/")
    assert result.stdout.strip().endswith("[0, 1, 1]"), result.stderr


def test_bad_input_exits_2_and_help_exits_0(place: Path) -> None:
    status, answer, err = harness(place, "train", "mnist_mpl")
    assert status == 2 and "mnist_mlp" in answer["hint"] and err.count("\n") == 1
    for arguments in (["--help"], ["study", "--help"], ["list"]):
        assert subprocess.run([str(HARNESS), *arguments], cwd=place, capture_output=True).returncode == 0


@pytest.mark.slow
def test_inline_trials_train_as_those_of_processes(tmp_path: Path) -> None:
    """typing's cache made limit_train_batches 1 a 1.0, all batches, where Optuna was imported first."""
    answers = []
    study = ["study", TOY, "--trials", "2", "--no-test"]
    for executor in ("local", "inline"):
        (tmp_path / executor).mkdir()
        workspace = Workspace(tmp_path / executor)
        limits = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]
        status, answer, err = workspace.run(*study, "--executor", executor, *limits)
        assert status == 0, err
        answers.append([(trial["params"], trial["value"]) for trial in answer["trials"]])
        assert {event["summary"]["best_step"] for event in workspace.events("finished")} <= {1, 2, 3}
    assert answers[0] == answers[1]
