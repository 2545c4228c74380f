"""The driver's own work as studies grow: simulated trials, which take no time, with the real driver.

.venv/bin/python benchmarks/scale.py                                  all sizes; hours on one core
.venv/bin/python benchmarks/scale.py --trials 10 100 1000 --workers 1 10
.venv/bin/python benchmarks/scale.py --plot docs/images/scale.png     also plot them
.venv/bin/python benchmarks/scale.py --rows rows.jsonl                rows in that file are not measured again

Everything but the trials is real: Optuna (TPE), MLflow with every run, and each trial's folder, spec and log. Prints
a table of all sizes, then the exponent of each column: the slope of its logarithm against that of the number of trials,
for each number of workers, from 100 trials on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure

from studies import search
from studies.config import experiment
from studies.config.parameters import flat_parameters
from studies.config.yaml_io import load_yaml
from studies.driver import commands as driver
from studies.driver import session
from studies.executors.base import Message
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Finished, Metrics, Report, Started
from studies.protocol.trial_spec import TrialSpec

REPORTS = 5  # validations of each trial


class SimulatedExecutor:
    """The interface of LocalExecutor; a trial's events are complete as soon as it is submitted."""

    def __init__(self, workers: int) -> None:
        self.workers, self.threads, self.gpus = workers, 1, 0
        self.submitted: list[float] = []
        self._waiting: list[TrialSpec] = []

    def warm(self) -> None: ...

    @property
    def free(self) -> int:
        return self.workers - len(self._waiting)

    @property
    def running(self) -> list[str]:
        return [spec.run_id for spec in self._waiting]

    def has_begun(self, run_id: str) -> bool:
        return True

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """A successful preflight check."""
        parameters = flat_parameters(load_yaml(payload["experiment"]))
        metrics = ["train/loss", "val/accuracy", "val/loss"]
        return {"parameters": parameters, "metrics": metrics, "metric": payload["metric"], "notes": [], "gpus": 0}

    def submit(self, spec: TrialSpec) -> None:
        self.submitted.append(time.perf_counter())
        spec.save()
        self._waiting.append(spec)
        log = EventWriter(Path(spec.folder) / NAME)
        log.append(Started(os.getpid(), "here", "none", {}, epochs=REPORTS))
        best = -abs(math.log10(spec.params["model.learning_rate"]) + 2)
        for epoch in range(REPORTS):
            value = best - 1 / (epoch + 1)
            log.append(Metrics(10 * epoch, epoch, {"val/accuracy": value, "val/loss": -value, "train/loss": -value}))
            log.append(Report(10 * epoch, epoch, value))
        log.append(Finished({"fit_seconds": 0.0}))
        log.close()

    def wait(self, seconds: float) -> list[Message]:
        ended, self._waiting = self._waiting, []
        return [Message(spec.run_id, "exited", 0) for spec in ended]

    def answer(self, run_id: str, stop: str | None) -> None: ...

    def stop(self, run_id: str, why: str) -> None: ...

    def kill(self, run_id: str) -> None: ...

    def close(self) -> None: ...


def timed(method: str, milliseconds: list[float]) -> None:
    """Records the time of each call of a method of the search."""
    original = getattr(search.Search, method)

    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            milliseconds.append(1000 * (time.perf_counter() - began))

    setattr(search.Search, method, call)


def simulate(trials: int, workers: int, sampler: str) -> dict[str, Any]:
    """One study in a fresh folder; run in a separate process, to measure its memory."""
    folder = Path(tempfile.mkdtemp(prefix="harness-scale-"))
    os.environ["HARNESS_HOME"] = str(folder)
    executor = SimulatedExecutor(workers)
    session.make_executor = lambda *arguments: executor  # type: ignore[assignment]
    plan = experiment.load("mnist_mlp")
    asked: list[float] = []
    told: list[float] = []
    timed("ask", asked)
    timed("tell", told)
    assert plan.search is not None
    plan.search.sampler, plan.search.pruner = sampler, "none"
    try:
        with contextlib.redirect_stderr(open(os.devnull, "w")):
            driver.run_study(plan, session.Options(["simulated"], workers=workers, trials=trials, test=False))
        each = [
            1000 * (after - before) for before, after in zip(executor.submitted, executor.submitted[1:], strict=False)
        ]
        return {
            "trials": trials,
            "workers": workers,
            "trials per second": (trials - 1) / (executor.submitted[-1] - executor.submitted[0]),
            "ms of a trial, around the 100th": statistics.median(each[80:120]) if trials >= 120 else None,
            "ms of a trial, the last": statistics.median(each[-20:]),
            "ms to ask, the last": statistics.median(asked[-20:]),
            "ms to tell, the last": statistics.median(told[-20:]),
            "optuna.db MB": (folder / "optuna.db").stat().st_size / 1e6,
            "mlflow.db MB": (folder / "mlflow.db").stat().st_size / 1e6,
            "driver MB": psutil.Process().memory_info().rss / 1e6,
        }
    finally:
        shutil.rmtree(folder)


def show(row: dict[str, Any], is_first: bool) -> None:
    """Prints a line of the table, the first one under its heading."""
    if is_first:
        print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
    cells = (f"{value:.4g}" if isinstance(value, float) else str(value or "") for value in row.values())
    print(f"| {' | '.join(cells)} |", flush=True)


ON_SIZE = ("trials", "workers", "ms of a trial, around the 100th")  # columns without an exponent


def exponents(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(column, workers, slope of log column against log trials), by least squares, from 100 trials on."""
    found = []
    for column in (name for name in rows[0] if name not in ON_SIZE):
        for workers in sorted({row["workers"] for row in rows}):
            points = [(row["trials"], row[column]) for row in rows if row["workers"] == workers]
            points = [(math.log(trials), math.log(value)) for trials, value in points if trials >= 100]
            if len(points) > 1:
                found.append((column, workers, statistics.linear_regression(*zip(*points, strict=True)).slope))
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Each column against the number of trials, a line for each number of workers, on logarithmic axes."""
    columns = [name for name in rows[0] if name not in ON_SIZE]
    figure = Figure(figsize=(13, 6), dpi=100, layout="constrained")
    axes = figure.subplots(2, math.ceil(len(columns) / 2)).ravel()
    for axis, column in zip(axes, columns, strict=False):
        for workers in sorted({row["workers"] for row in rows}):
            line = [row for row in rows if row["workers"] == workers]
            numbers, values = [row["trials"] for row in line], [row[column] for row in line]
            axis.loglog(numbers, values, "o-", markersize=4, label=f"{workers} worker{'s' * (workers > 1)}")
        axis.set(title=column, xlabel="trials")
        axis.grid(alpha=0.3)
    for axis in axes[len(columns) :]:
        axis.set_axis_off()
    axes[len(columns) - 1].legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--plot", type=Path, help="picture to write, too")
    parser.add_argument("--rows", type=Path, help="file of sizes measured so far, one line of JSON each; grows")
    parser.add_argument("--one", action="store_true", help="one size, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(simulate(options.trials[0], options.workers[0], options.sampler)))
        return
    known = options.rows.read_text().splitlines() if options.rows is not None and options.rows.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in known]
    for row in rows:
        show(row, is_first=row is rows[0])
    there = {(row["trials"], row["workers"]) for row in rows}
    for trials in options.trials:
        for workers in options.workers:
            if workers > trials or (trials, workers) in there:
                continue
            one = [sys.executable, __file__, "--one", "--sampler", options.sampler]
            one += ["--trials", str(trials), "--workers", str(workers)]
            result = subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(result.stdout.splitlines()[-1]))
            show(rows[-1], is_first=len(rows) == 1)
            if options.rows is not None:
                with open(options.rows, "a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    rows.sort(key=lambda row: (row["workers"], row["trials"]))
    if found := exponents(rows):
        print("\n| column | workers | exponent |\n|---|---|---|")
        for column, workers, exponent in found:
            print(f"| {column} | {workers} | {exponent:.2f} |")
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
