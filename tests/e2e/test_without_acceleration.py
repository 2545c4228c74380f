"""Each shipped experiment has bit-identical values and weights if studies/acceleration/ was deleted."""

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

from studies.config.experiment import shipped

ROOT = Path(__file__).parents[2]
LONGER = [  # variants of the others, whose epochs take minutes
    *("mnist_cnn_4k", "mnist_cnn_9k", "mnist_cnn_wide", "mnist_lenet5_long", "mnist_mlp_noise", "mnist_mlp_elastic"),
    *("reverse_gru", "reverse_gru_long", "recurrent_cells"),  # whose epoch is a number of steps between validations
]
FEW_STEPS = {
    "reverse_random": ["--data.batches", "100", "--trainer.val_check_interval", "100"],
    **{name: ["--trainer.max_steps", "100", "--trainer.val_check_interval", "100"] for name in LONGER},
}
TIMES = ("_seconds", "per_second", "system/")


@pytest.fixture(scope="session")
def bare_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code without studies/acceleration/."""
    tree = tmp_path_factory.mktemp("bare")
    for package in ("studies", "lightning_modules", "datamodules"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "acceleration"))
    return tree


def trained(name: str, tree: Path, folder: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The metrics and the weights of one epoch of an experiment, or of its first 100 steps."""
    command = [sys.executable, "-P", "-m", "studies.cli.main", "train", name, "--no-test", "--json"]
    command += FEW_STEPS.get(name, ["--trainer.max_epochs", "1"])
    environment = {**os.environ, "PYTHONPATH": str(tree), "HARNESS_HOME": "state"}
    folder.mkdir()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    assert result.returncode == 0
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    values = {key: value for key, value in answer["metrics"].items() if not any(word in key for word in TIMES)}
    checkpoints = folder / "state" / "trials" / answer["run_id"] / "checkpoints"
    # A fit that ends by max_steps has a last.ckpt only if it took a minute; its best is that of its one validation.
    name = "best.ckpt" if name in FEW_STEPS else "last.ckpt"
    return values, torch.load(checkpoints / name, weights_only=False)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_one_epoch_of_a_shipped_experiment(tmp_path: Path, bare_tree: Path, name: str) -> None:
    assert not (bare_tree / "studies" / "acceleration").exists()
    values, weights = trained(name, ROOT, tmp_path / "with")
    plain_values, plain_weights = trained(name, bare_tree, tmp_path / "without")
    assert values == plain_values and any(key.startswith("val/") for key in values)
    assert weights.keys() == plain_weights.keys() and len(weights) > 0
    for key, weight in weights.items():
        assert torch.equal(weight, plain_weights[key]), key
