"""What the driver's own work comes to as studies grow: simulated trials, which take no time, through the real driver.

.venv/bin/python benchmarks/scale.py --trials 10 100 1000 --workers 1 10

Everything but the trials is real: Optuna (TPE) asks and is told, MLflow gets every run, each trial has its folder,
its spec and its log. Prints, for each size, trials per second, milliseconds of the last trials (the median of the
last 20) and of those around the 100th, the databases' sizes and the driver's memory.
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

from studies import driver, experiment
from studies.event_log import NAME, EventWriter
from studies.executors.local import Message
from studies.messages import Finished, Metrics, Report, Started, TrialSpec

REPORTS = 5  # validations of each trial


class SimulatedExecutor:
    """The calls of LocalExecutor; a trial has said all it has to say as soon as it is submitted."""

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

    def call(self, function: str, payload: dict[str, Any], while_waiting: Callable[[], None] | None = None) -> Any:
        """The rehearsal: all is well."""
        return {"experiment": payload["experiment"], "gpus": 0}

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


def simulate(trials: int, workers: int, sampler: str) -> dict[str, Any]:
    """One study in a fresh folder; run in a process of its own, for its memory."""
    folder = Path(tempfile.mkdtemp(prefix="harness-scale-"))
    os.environ["HARNESS_HOME"] = str(folder)
    executor = SimulatedExecutor(workers)
    driver.make_executor = lambda *arguments: executor  # type: ignore[assignment]
    plan = experiment.load("mnist_mlp")
    assert plan.search is not None
    plan.search.sampler, plan.search.pruner = sampler, "none"
    try:
        with contextlib.redirect_stderr(open(os.devnull, "w")):
            driver.study(plan, driver.Options(["simulated"], workers=workers, trials=trials, test=False))
        each = [
            1000 * (after - before) for before, after in zip(executor.submitted, executor.submitted[1:], strict=False)
        ]
        return {
            "trials": trials,
            "workers": workers,
            "trials per second": (trials - 1) / (executor.submitted[-1] - executor.submitted[0]),
            "ms, around the 100th": statistics.median(each[80:120]) if trials >= 120 else None,
            "ms, the last": statistics.median(each[-20:]),
            "optuna.db MB": (folder / "optuna.db").stat().st_size / 1e6,
            "mlflow.db MB": (folder / "mlflow.db").stat().st_size / 1e6,
            "driver MB": psutil.Process().memory_info().rss / 1e6,
        }
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    if len(options.trials) == len(options.workers) == 1:
        print(json.dumps(simulate(options.trials[0], options.workers[0], options.sampler)))
        return
    printed = False
    for trials in options.trials:
        for workers in options.workers:
            if workers > trials:
                continue
            one = [sys.executable, __file__, "--sampler", options.sampler]
            one += ["--trials", str(trials), "--workers", str(workers)]
            result = subprocess.run(one, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(result.stdout.splitlines()[-1])
            if not printed:
                print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}", flush=True)
                printed = True
            cells = (f"{value:.4g}" if isinstance(value, float) else str(value or "") for value in row.values())
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
