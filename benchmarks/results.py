"""Trains experiments with several seeds through the installed command and prints the table of docs/results.md.

make results                                        all, seeds 0 1 2
.venv/bin/python benchmarks/results.py mnist_mlp --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
METRICS = {
    "mnist_mlp": "test/accuracy",
    "mnist_lenet5": "test/accuracy",
    "mnist_cnn": "test/accuracy",
    "mnist_speedrun": "test/accuracy",
    "mnist_segmentation": "test/mean_iou",
    "mnist_detection": "test/map_50",
    "activations": "test/accuracy",
    "one_neuron": "test/accuracy",
    "tabular_classification": "test/roc_auc",
    "tabular_regression": "test/rmse",
    "recurrent_cells": "test/exact_match",
    "reverse_gru": "test/exact_match",
}
IN_ITS_UNIT = ("test/rmse",)  # the others are fractions, shown in percent


def train(name: str, seed: int, home: str) -> tuple[float, float]:
    """The metric on the test set, in percent if a fraction, and wall seconds of the whole command."""
    command = [str(Path(sys.executable).parent / "harness"), "train", name, "--seed", str(seed), "--json"]
    began = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HARNESS_HOME": home})
    seconds = time.monotonic() - began
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {result.returncode}")
    answer = json.loads(result.stdout.splitlines()[-1])
    value = answer["metrics"][METRICS[name]]
    return value if METRICS[name] in IN_ITS_UNIT else 100 * value, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(METRICS), help="experiments (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; commit {commit.stdout.strip()}\n")
    print("| experiment | metric | seeds | mean ± std | each | wall seconds, start-up included |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as home:
        for name in options.names:
            results = [train(name, seed, home) for seed in options.seeds]
            values, seconds = [value for value, _ in results], [second for _, second in results]
            unit = "" if METRICS[name] in IN_ITS_UNIT else "%"
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(
                f"| {name} | {METRICS[name]} | {' '.join(map(str, options.seeds))} | "
                f"{statistics.mean(values):.2f}{unit} ± {spread:.2f} | "
                f"{' '.join(f'{value:.2f}' for value in values)} | "
                f"{' '.join(f'{second:.0f}' for second in seconds)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
