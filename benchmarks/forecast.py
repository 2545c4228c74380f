"""The error of `harness forecast` over all shipped experiments: the forecast of a small study, then the study itself.

.venv/bin/python benchmarks/forecast.py                    # two trials each, with the experiments' own epochs
.venv/bin/python benchmarks/forecast.py --only one_neuron --repeats 3

Studies run without a pruner, since a forecast is of whole trials. Each repetition forecasts and runs; figures are
medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

from bench import HARNESS, answer_of, fresh_folder

from studies.config.experiment import shipped


def measured(name: str, trials: int, workers: int) -> tuple[float, float, bool]:
    """Forecast and real seconds, and whether the real ones are within the interval."""
    how = ["--trials", str(trials), "--workers", str(workers), "--json"]
    with fresh_folder() as folder:
        forecast = answer_of([HARNESS, "forecast", name, *how], folder)
        began = time.monotonic()
        answer_of([HARNESS, "study", name, *how, "--pruner", "none"], folder)
        real = time.monotonic() - began
    return forecast["seconds"], real, forecast["low"] <= real <= forecast["high"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="experiments (default: all)")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    print(f"| experiment, {options.trials} trials | forecast s | real s | error | within the interval |")
    print("|---|---|---|---|---|", flush=True)
    errors = []
    for name in options.only or shipped():
        runs = [measured(name, options.trials, options.workers) for _ in range(options.repeats)]
        forecast, real = (statistics.median(run[side] for run in runs) for side in (0, 1))
        errors.append(statistics.median(run[0] / run[1] - 1 for run in runs))
        within = sum(run[2] for run in runs)
        print(f"| {name} | {forecast:.1f} | {real:.1f} | {errors[-1]:+.0%} | {within}/{len(runs)} |", flush=True)
    print(f"\nlargest error {max(map(abs, errors)):.0%}, median {statistics.median(map(abs, errors)):.0%}")


if __name__ == "__main__":
    main()
