"""Runs know their data: changes and overlap are said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from process_helpers import HARNESS, Workspace
from schemas import check

FILES = {
    "mine.py": """
import numpy as np, torch
from pathlib import Path
from pytorch_lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, Dataset, random_split

class Points(Dataset):
    '''Points of a file, drawn one by one.'''
    def __init__(self, file): self.values = np.load(file)
    def __len__(self): return len(self.values)
    def __getitem__(self, index):
        return torch.from_numpy(self.values[index]) + 0.001 * torch.rand(3), int(index % 2)

class Data(LightningDataModule):
    def setup(self, stage):
        self.train, self.val = random_split(Points('train.npy'), [0.8, 0.2])
        self.test = Points('test.npy')
    def train_dataloader(self): return DataLoader(self.train, 8, shuffle=True)
    def val_dataloader(self): return DataLoader(self.val, 8)
    def test_dataloader(self): return DataLoader(self.test, 8)

class Net(LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.lr, self.line = lr, torch.nn.Linear(3, 2)
    def forward(self, x): return self.line(x)
    def step(self, name, batch):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log(name, loss)
        return loss
    def training_step(self, batch, i): return self.step('train/loss', batch)
    def validation_step(self, batch, i): self.step('val/loss', batch)
    def test_step(self, batch, i): self.step('test/loss', batch)
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), self.lr)
""",
    "mine.yaml": """
model: {class_path: mine.Net, init_args: {lr: 0.1}}
data: {class_path: mine.Data}
trainer: {max_epochs: 2, enable_progress_bar: false}
search:
  metric: val/loss
  direction: minimize
  space: {model.lr: {low: 0.01, high: 0.5}}
  sampler: random
  pruner: none
""",
}


def write(folder: Path, seed: int) -> None:
    import numpy as np

    random = np.random.default_rng(seed)
    np.save(folder / "train.npy", random.random((100, 3), np.float32))
    np.save(folder / "test.npy", random.random((20, 3), np.float32))


@pytest.mark.slow
def test_changed_data_are_said_before_a_run_resumes_and_a_study_goes_on(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    write(tmp_path, 0)
    workspace = Workspace(tmp_path)
    status, run, err = workspace.run("train", "mine.yaml")
    assert status == 0 and "data changed" not in err, err
    status, _, err = workspace.run("study", "mine.yaml", "--trials", "2")
    assert status == 0 and "data changed" not in err, err
    of_run = workspace.events("dataset")
    assert {event["split"]: (event["samples"], event["read"]) for event in of_run if event["split"] == "test"}
    assert all(event["read"] == event["samples"] for event in of_run), of_run
    assert len({event["digest"] for event in of_run if event["split"] == "train"}) == 3, (
        "each seed splits in its own way"
    )
    assert len({event["digest"] for event in of_run if event["split"] == "test"}) == 1

    # The same data: nothing is said. The preflight check finds the run's own random split.
    status, _, err = workspace.run("resume", run["run_id"], "--trainer.max_epochs", "3")
    assert status == 0 and "data changed" not in err, err
    status, _, err = workspace.run("study", "mine.yaml", "--trials", "3")
    assert status == 0 and "data changed" not in err, err

    write(tmp_path, 1)
    status, _, err = workspace.run("resume", run["run_id"], "--trainer.max_epochs", "4")
    assert status == 0 and "data changed since: train " in err and ", test " in err, err
    status, _, err = workspace.run("study", "mine.yaml", "--trials", "4")
    assert status == 0 and err.count("data changed since: train ") == 1, err
    status, _, err = workspace.run("extend", "mine", "--top", "1", "--epochs", "1")
    assert status == 0 and "data changed" not in err, "it is said once"
    write(tmp_path, 2)
    status, _, err = workspace.run("extend", "mine", "--top", "1", "--epochs", "1")
    assert status == 0 and err.count("data changed since: train ") == 1, err


@pytest.mark.slow
def test_overlap_is_said_and_tagged(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("+ 0.001 * torch.rand(3)", ""))
    write(tmp_path, 0)
    import numpy as np

    train, test = np.load(tmp_path / "train.npy"), np.load(tmp_path / "test.npy")
    test[:3] = train[[5, 50, 95]]
    np.save(tmp_path / "test.npy", test)
    workspace = Workspace(tmp_path)
    status, run, err = workspace.run("train", "mine.yaml", "--trainer.max_epochs", "1")
    assert status == 0 and " of 20 test samples are also in " in err, err
    tags = MlflowClient(tracking_uri=workspace.uri).get_run(run["run_id"]).data.tags
    counts = [int(line.split()[0]) for line in tags["harness.overlap"].split("; ") if " test samples " in line]
    assert sum(counts) == 3, tags["harness.overlap"]
    spec = json.loads((workspace.home / "trials" / run["run_id"] / "spec.json").read_text())
    assert spec["data_sets"]["test"]["read"] == 20


@pytest.mark.slow
def test_two_runs_are_told_apart_to_the_samples_on_which_they_disagree(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    write(tmp_path, 0)
    workspace = Workspace(tmp_path)
    runs = []
    for rate in ("0.001", "1.0"):
        status, run, err = workspace.run("train", "mine.yaml", "--model.lr", rate)
        assert status == 0, err
        runs.append(run["run_id"])
        write(tmp_path, 1)
    status, answer, err = workspace.run("diff", *runs)
    assert status == 0, err
    check("diff", answer)
    assert answer["parameters"] == [{"name": "model.lr", "a": "0.001", "b": "1.0"}]
    assert [item["split"] for item in answer["data"]] == ["train", "val", "test"] and answer["packages"] == []
    found = answer["predictions"]
    assert found["samples"] == 20 == sum(found["right"].values()), answer["unpredicted"]
    assert sum(row["samples"] for row in found["classes"]) == 20
    if found["disagreements"]:
        assert Path(found["picture"]).parent == tmp_path and Path(found["picture"]).is_file()
    status, answer, err = workspace.run("compare", *runs)
    check("compare", answer)
    told = subprocess.run([HARNESS, "compare", *runs], cwd=tmp_path, env=workspace.environment, capture_output=True)
    assert b"data/train" in told.stdout and b"data/test" in told.stdout
