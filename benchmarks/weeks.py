"""What commands take in the state folder of a study that has run for a week.

.venv/bin/python benchmarks/weeks.py                  2,000 and 10,000 trials of the toy experiment; half an hour
.venv/bin/python benchmarks/weeks.py --trials 100

One trial is real. The others are copies of its files, with other values, made by the real driver: Optuna, MLflow with
every run and artifact, logs. Then the installed commands are timed in that folder, each once with a cold cache of its
own (a new process) and as often as --times says. Prints a table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from scale import SimulatedExecutor

from studies.config import experiment
from studies.driver import commands as driver
from studies.driver import session
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import Metrics, Report
from studies.protocol.trial_spec import TrialSpec

ROOT = Path(__file__).resolve().parents[1]
TOY = str(ROOT / "tests" / "toy" / "toy.yaml")
HARNESS = str(Path(sys.executable).parent / "harness")
METRICS = ["train/loss", "val/loss"]


class Copies(SimulatedExecutor):
    """Trials that are copies of a real one; its metrics are multiplied by a number of each trial's own."""

    def __init__(self, template: Path) -> None:
        super().__init__(workers=1)
        self.template = template
        self.events = EventReader(template / NAME).read()
        self.megabytes: list[float] = []

    def submit(self, spec: TrialSpec) -> None:
        self.submitted.append(time.perf_counter())
        self._waiting.append(spec)
        spec.save()
        folder, factor = Path(spec.folder), 1 + spec.number % 97 / 100
        for name in ("artifacts", "checkpoints"):
            shutil.copytree(self.template / name, folder / name, dirs_exist_ok=True)
        log = EventWriter(folder / NAME)
        for event in self.events:
            if isinstance(event, Metrics):
                event = replace(event, values={name: value * factor for name, value in event.values.items()})
            elif isinstance(event, Report):
                event = replace(event, value=event.value * factor)
            log.append(replace(event, time=time.time()))
        log.close()
        if spec.number % 100 == 0:
            self.megabytes.append(psutil.Process().memory_info().rss / 1e6)


def make(trials: int, folder: Path) -> dict[str, Any]:
    """A study of this many trials in a fresh state folder; in a process of its own, whose memory is measured."""
    os.environ["HARNESS_HOME"] = str(folder)
    options = session.Options(["study"], workers=1, trials=1, test=False, study_name="toy")
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        driver.run_study(experiment.load(TOY), options)
        (template,) = (path.parent for path in folder.glob("trials/*/events.jsonl"))
        executor = Copies(template)
        executor.call = session.make_executor("local", 1, 0, False).call  # type: ignore[method-assign]
        session.make_executor = lambda *arguments: executor  # type: ignore[assignment]
        driver.run_study(experiment.load(TOY), replace(options, trials=trials))
    files = sum(len(names) for _, _, names in os.walk(folder))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    hundred = statistics.median(executor.megabytes[1:3] or executor.megabytes)
    return {
        "trials": trials,
        "files per trial": files / trials,
        "MB per trial": size / 1e6 / trials,
        "driver MB at 100": hundred,
        "driver MB at the end": executor.megabytes[-1],
        "trials per second": (trials - 2) / (executor.submitted[-1] - executor.submitted[0]),
    }


def seconds(folder: Path, *arguments: str) -> float:
    """Wall time of one command, which has to succeed."""
    environment = {**os.environ, "HARNESS_HOME": str(folder)}
    began = time.perf_counter()
    result = subprocess.run([HARNESS, *arguments], env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{arguments} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return time.perf_counter() - began


def measure(trials: int, times: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="harness-weeks-"))
    try:
        command = [sys.executable, __file__, "--one", str(folder), "--trials", str(trials)]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        runs = sorted(path.name for path in (folder / "trials").iterdir())
        commands = {
            "doctor s": ["doctor"],
            "study again s": ["study", TOY, "--study-name", "toy", "--trials", str(trials), "--no-test"],
            "runs s": ["runs"],
            "compare s": ["compare", runs[0][:8], runs[-1][:8]],
        }
        for name, arguments in commands.items():
            row[name] = statistics.median(seconds(folder, *arguments) for _ in range(times))
        return row
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--times", type=int, default=1, help="how often each command is timed; the median counts")
    parser.add_argument("--one", type=Path, help="only make the study, in this folder")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(make(options.trials[0], options.one)))
        return
    for index, trials in enumerate(options.trials):
        row = measure(trials, options.times)
        if index == 0:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        cells = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
