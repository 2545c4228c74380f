"""Trains experiments with several seeds through the installed command and prints the table of docs/results.md.

make results                                        all, seeds 0 1 2
.venv/bin/python benchmarks/results.py --reach      those that are to reach published results, seeds 0 1 2 3 4; hours
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

from scipy import stats

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
REACH = {
    "mnist_cnn_4k": "test/accuracy",
    "mnist_cnn_9k": "test/accuracy",
    "mnist_cnn_wide": "test/accuracy",
    "mnist_lenet5_long": "test/accuracy",
    "mnist_mlp_noise": "test/accuracy",
    "mnist_mlp_elastic": "test/accuracy",
    "reverse_gru_long": "test/exact_match",
    "reverse_random": "test/exact_match_length_15",
}
IN_ITS_UNIT = ("test/rmse",)  # the others are fractions, shown in percent


def train(name: str, metric: str, seed: int, home: str) -> tuple[float, float]:
    """The metric on the test set, in percent if a fraction, and wall seconds of the whole command."""
    command = [str(Path(sys.executable).parent / "harness"), "train", name, "--seed", str(seed), "--json"]
    began = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HARNESS_HOME": home})
    seconds = time.monotonic() - began
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {result.returncode}")
    answer = json.loads(result.stdout.splitlines()[-1])
    value = answer["metrics"][metric]
    return value if metric in IN_ITS_UNIT else 100 * value, seconds


def interval(values: list[float]) -> str:
    """The 95% confidence interval of the mean, by Student's t; the seeds are a sample of all seeds."""
    if len(set(values)) < 2:
        return "-"  # there is no spread to tell it from
    low, high = stats.t.interval(0.95, len(values) - 1, statistics.mean(values), stats.sem(values))
    return f"{low:.2f} to {high:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="experiments (default: all but those of --reach)")
    parser.add_argument("--reach", action="store_true", help="the experiments that are to reach published results")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2; with --reach 0 1 2 3 4")
    options = parser.parse_args()
    names = options.names or list(REACH if options.reach else METRICS)
    seeds = options.seeds or list(range(5 if options.reach else 3))
    metrics = METRICS | REACH
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; commit {commit.stdout.strip()}\n")
    print("| experiment | metric | seeds | mean ± std | 95% interval | each | wall seconds, start-up included |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as home:
        for name in names:
            metric = metrics[name]
            results = [train(name, metric, seed, home) for seed in seeds]
            values, seconds = [value for value, _ in results], [second for _, second in results]
            unit = "" if metric in IN_ITS_UNIT else "%"
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(
                f"| {name} | {metric} | {' '.join(map(str, seeds))} | "
                f"{statistics.mean(values):.2f}{unit} ± {spread:.2f} | {interval(values)} | "
                f"{' '.join(f'{value:.2f}' for value in values)} | "
                f"{' '.join(f'{second:.0f}' for second in seconds)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
