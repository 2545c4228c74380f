"""`harness train` and LightningCLI on the same file without `search:`: bit-identical weights, same values."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from studies.cli.main import main
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Metrics

HERE = Path(__file__).parent / "same"
NET, DATA = "model: {class_path: net.Net}", "data: {class_path: net.Data}"
LINEAR = "{class_path: torch.nn.Linear, init_args: {in_features: %d, out_features: %d}}"
STOPPING = "{class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 0, min_delta: 0.05}}"
EXPERIMENTS = {
    "plain": f"{NET}\n{DATA}",
    "workers": f"{NET}\ndata: {{class_path: net.Data, init_args: {{num_workers: 2}}}}",
    "enum": f"model: {{class_path: net.Summing}}\n{DATA}",
    "whole numbers for keys": f"model: {{class_path: net.Weighted, init_args: {{weights: {{1: 3, 2: 0.5}}}}}}\n{DATA}",
    "such keys by default": f"model: {{class_path: net.Weighted}}\n{DATA}",
    "sections optimizer and lr_scheduler": (
        f"model: {{class_path: net.WithoutOptimizer}}\n{DATA}\n"
        "optimizer: {class_path: AdamW, init_args: {lr: 0.02}}\n"
        "lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1}}"
    ),
    "nested modules": (
        f"model: {{class_path: net.Nested, init_args: {{body: {LINEAR % (4, 6)}, head: {LINEAR % (6, 3)}}}}}\n{DATA}"
    ),
    "loaders of its own": "model: {class_path: net.OwnLoaders}",
    "trainer": (
        f"{NET}\n{DATA}\ntrainer: {{max_epochs: 6, log_every_n_steps: 3, gradient_clip_val: 0.5, "
        "accumulate_grad_batches: 2, val_check_interval: 0.5, "
        f"callbacks: [{STOPPING}, {{class_path: LearningRateMonitor}}]}}"
    ),
}
WAYS: dict[str, list[str]] = {"local": [], "inline": ["--executor", "inline"], "plain": ["--plain"]}
OFTEN = ("trainer",)  # these are run in all ways each time
RUNS = [
    pytest.param(name, way, marks=[] if way == "local" or name in OFTEN else pytest.mark.slow)
    for name in EXPERIMENTS
    for way in WAYS
]


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_')}.yaml"


@pytest.fixture(scope="module")
def by_lightning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all experiments, and LightningCLI's results for each, from one separate process."""
    folder = tmp_path_factory.mktemp("same")
    for script in HERE.glob("*.py"):
        shutil.copy(script, folder)
    for name, text in EXPERIMENTS.items():
        trainer = "" if "trainer:" in text else "\ntrainer: {max_epochs: 2, log_every_n_steps: 4}"
        file_of(folder, name).write_text(f"seed_everything: 5\n{text}{trainer}\n")
    files = [str(file_of(folder, name)) for name in EXPERIMENTS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "plain_lightning.py", *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def train(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Runs `harness train`; returns the run."""
    capsys.readouterr()
    status = main(["train", *argv, "--threads", "1", "--no-test", "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return str(json.loads(captured.out)["run_id"])


def assert_same(expected: Path, home: Path, run_id: str) -> None:
    theirs: dict[str, Any] = torch.load(expected, weights_only=True)
    checkpoint = torch.load(home / "trials" / run_id / "checkpoints" / "best.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == list(theirs["weights"])
    for name, weights in theirs["weights"].items():
        assert torch.equal(checkpoint["state_dict"][name], weights), name
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    logged = {name for name, _, _ in theirs["rows"]}
    ours = {name for name in client.get_run(run_id).data.metrics if not name.startswith(("system/", "best/"))}
    assert ours - {"fit_seconds", "best_step", "best_epoch"} == logged
    events = [event for event in EventReader(home / "trials" / run_id / NAME).read() if isinstance(event, Metrics)]
    for metric in logged:
        values = [(step, value) for name, step, value in theirs["rows"] if name == metric]
        history = [(point.step, point.value) for point in client.get_metric_history(run_id, metric)]
        assert set(history) == set(values), metric
        # Counted in the trial's log: MLflow keeps one of equal points of the same step and millisecond.
        logs = [event for event in events if metric in event.values]
        assert metric == "epoch" or [(event.step, event.values[metric]) for event in logs] == values, metric


@pytest.mark.parametrize(("name", "way"), RUNS)
def test_the_same_weights_and_the_same_values(
    by_lightning: Path, home: Path, capsys: pytest.CaptureFixture[str], name: str, way: str
) -> None:
    file = file_of(by_lightning, name)
    assert_same(file.with_suffix(".pt"), home, train(capsys, str(file), *WAYS[way]))


def test_a_class_in_a_file_and_overlays(by_lightning: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other spellings of the same experiment."""
    folder = by_lightning / "elsewhere"
    folder.mkdir()
    first, second, third = folder / "first.yaml", folder / "second.yaml", folder / "third.yaml"
    first.write_text("seed: 1\nmodel: {class_path: ../net.py:Net, init_args: {rate: 3}}\ntrainer: {max_epochs: 9}\n")
    second.write_text("data: {class_path: ../net.py:Data, init_args: {batch_size: 5}}\nmodel: {init_args: {rate: 4}}\n")
    third.write_text("seed: 5\ntrainer: {max_epochs: 2, log_every_n_steps: 2}\n")
    overrides = ["--model.rate", "0.1", "--data.init_args.batch_size", "8", "--trainer.log_every_n_steps=4"]
    run_id = train(capsys, str(first), "--config", str(second), "--config", str(third), *overrides)
    assert_same(file_of(by_lightning, "plain").with_suffix(".pt"), home, run_id)
