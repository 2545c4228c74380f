"""Results of the shipped experiments on the full data, through the installed command (docs/results.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(sys.executable).parent / "harness"
FLOORS = [
    ("mnist_mlp", "test/accuracy", 0.982),
    ("mnist_lenet5", "test/accuracy", 0.989),
    ("mnist_cnn", "test/accuracy", 0.992),
    ("mnist_speedrun", "test/accuracy", 0.987),
    ("mnist_segmentation", "test/mean_iou", 0.85),
    ("mnist_detection", "test/map_50", 0.85),
    ("activations", "test/accuracy", 0.94),
    ("one_neuron", "test/accuracy", 0.98),
    ("tabular_classification", "test/roc_auc", 0.98),
    ("tabular_regression", "test/r2", 0.2),
    ("recurrent_cells", "test/exact_match", 0.85),
    ("reverse_gru", "test/exact_match", 0.995),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "metric", "floor"), FLOORS)
def test_an_experiment_reaches_its_floor(tmp_path: Path, name: str, metric: str, floor: float) -> None:
    command = [str(HARNESS), "train", name, "--threads", "1", "--json"]  # two such tests share two cores
    result = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "HARNESS_HOME": "state"}
    )
    assert result.returncode == 0
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["status"] == "finished"
    assert answer["metrics"][metric] >= floor
