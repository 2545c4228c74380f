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
PARTS = 4  # of the experiments, each trained in two processes at once
SCRIPT = """
import json, sys
from studies.cli.main import main
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
"""
TIMES = ("_seconds", "per_second", "system/")


@pytest.fixture(scope="session")
def bare_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code without studies/acceleration/."""
    tree = tmp_path_factory.mktemp("bare")
    for package in ("studies", "lightning_modules", "datamodules"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "acceleration"))
    return tree


def start(names: list[str], tree: Path, folder: Path) -> subprocess.Popen[str]:
    """Trains experiments in turns, in one process: an import for each would take longer than the training."""
    commands = [
        ["train", name, "--no-test", "--json", *FEW_STEPS.get(name, ["--trainer.max_epochs", "1"])] for name in names
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree), "HARNESS_HOME": "state"}
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, json.dumps(commands)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )


def results(answer: dict[str, Any], folder: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The metrics and the weights of one epoch of an experiment, or of its first 100 steps."""
    values = {key: value for key, value in answer["metrics"].items() if not any(word in key for word in TIMES)}
    checkpoints = folder / "state" / "trials" / answer["run_id"] / "checkpoints"
    # A fit that ends by max_steps has a last.ckpt only if it took a minute; its best is that of its one validation.
    found = checkpoints / "last.ckpt"
    path = found if found.is_file() else checkpoints / "best.ckpt"
    return values, torch.load(path, weights_only=False)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [list(shipped())[place::PARTS] for place in range(PARTS)], ids=" ".join)
def test_one_epoch_of_a_shipped_experiment(tmp_path: Path, bare_tree: Path, names: list[str]) -> None:
    assert not (bare_tree / "studies" / "acceleration").exists()
    folders = tmp_path / "with", tmp_path / "without"
    processes = [start(names, tree, folder) for tree, folder in zip((ROOT, bare_tree), folders, strict=True)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    answers = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    for name, *pair in zip(names, *answers, strict=True):
        found = [results(answer, folder) for answer, folder in zip(pair, folders, strict=True)]
        (values, weights), (plain_values, plain_weights) = found
        assert values == plain_values and any(key.startswith("val/") for key in values), name
        assert weights.keys() == plain_weights.keys() and len(weights) > 0, name
        for key, weight in weights.items():
            assert torch.equal(weight, plain_weights[key]), (name, key)
