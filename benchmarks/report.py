"""How long `harness report` takes for a large study, and how large its page is.

.venv/bin/python benchmarks/report.py                     10,000 trials of 30 validations each
.venv/bin/python benchmarks/report.py --trials 100 1000

The trials are made up: written to Optuna at once, each with a log; a tenth is pruned, a twentieth failed. MLflow has
the run of the study and that of its best trial, which are all that a report reads from it. The installed command is
timed, in a new process each time; the median of --times counts. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna

from studies.common.sqlite_files import sqlite_url
from studies.common.state_folder import StateFolder
from studies.common.trust import make_own
from studies.config.search_space import parse_space
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Failed, Finished, Metrics, Report
from studies.search import Search
from studies.search.study import RUN
from studies.tracking.client import Tracking

HARNESS = str(Path(sys.executable).parent / "harness")
SPACE = {
    "model.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "model.width": [64, 128, 256, 512],
    "model.activation": ["relu", "gelu", "tanh"],
    "data.batch_size": [32, 64, 128],
}
DISTRIBUTIONS = {
    "model.learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "model.dropout": optuna.distributions.FloatDistribution(0.0, 0.5),
    "model.width": optuna.distributions.CategoricalDistribution([64, 128, 256, 512]),
    "model.activation": optuna.distributions.CategoricalDistribution(["relu", "gelu", "tanh"]),
    "data.batch_size": optuna.distributions.CategoricalDistribution([32, 64, 128]),
}
STATE = optuna.trial.TrialState


def make(folder: Path, trials: int, validations: int) -> None:
    """A study `big` of made-up trials in a state folder."""
    make_own(folder)
    storage = sqlite_url(folder / "optuna.db")
    definition = {"experiment": {"name": "big"}, "space": SPACE, "metric": "val/accuracy", "direction": "maximize"}
    Search(storage, "big", {**definition, "seed": 0}, parse_space(SPACE), "random", "none", None)
    os.environ["HARNESS_HOME"] = str(folder)
    home = StateFolder.find()
    tracking = Tracking(home.tracking_uri, home.artifacts)
    experiment = tracking.experiment("big")
    tags = {"harness.study": "big", "mlflow.source.name": "harness study big.yaml --trials 10000"}
    tracking.start(experiment, "study big", {"search.metric": "val/accuracy"}, {**tags, "harness.kind": "study"})
    draw, rows, values = random.Random(0), [], []
    began = datetime(2026, 1, 1)
    for number in range(trials):
        rate = 10 ** draw.uniform(-5, -1)
        width = draw.choice([64, 128, 256, 512])
        params: dict[str, Any] = {
            "model.learning_rate": rate,
            "model.dropout": draw.uniform(0, 0.5),
            "model.width": width,
        }
        params |= {
            "model.activation": draw.choice(["relu", "gelu", "tanh"]),
            "data.batch_size": draw.choice([32, 64, 128]),
        }
        state = draw.choices([STATE.COMPLETE, STATE.PRUNED, STATE.FAIL], [17, 2, 1])[0]
        run = uuid.UUID(int=draw.getrandbits(128)).hex
        value = log(folder / "trials" / run, params, state, validations, draw)
        values.append((value if state == STATE.COMPLETE else -1.0, number))
        start = began + timedelta(seconds=30 * number)
        rows.append(
            optuna.trial.create_trial(
                state=state,
                params=params,
                distributions=DISTRIBUTIONS,
                value=value if state == STATE.COMPLETE else None,
                intermediate_values={1: value} if state == STATE.PRUNED else {},
                user_attrs={RUN: run},
            )
        )
        rows[-1].datetime_start, rows[-1].datetime_complete = start, start + timedelta(seconds=draw.uniform(20, 90))
    best = max(values)[1]
    trial = tracking.start(experiment, f"trial {best}", {"seed": 1}, {**tags, "harness.kind": "trial"})
    (folder / "trials" / rows[best].user_attrs[RUN]).rename(folder / "trials" / trial)
    rows[best].set_user_attr(RUN, trial)
    optuna.load_study(study_name="big", storage=storage).add_trials(rows)


def log(folder: Path, params: dict[str, Any], state: STATE, validations: int, draw: random.Random) -> float:
    """Writes a trial's log; returns its last value."""
    rate, width = params["model.learning_rate"], params["model.width"]
    reach = 0.99 - 0.08 * abs(draw.gauss(0, 0.3) + (len(str(rate)) % 3) / 9 + 20 * abs(rate - 0.01)) + width / 1e5
    folder.mkdir(parents=True)
    events: list[Event] = []
    value = 0.0
    count = validations if state == STATE.COMPLETE else max(1, validations // 5)
    for epoch in range(count):
        value = reach * (1 - 0.7 ** (epoch + 2)) + draw.gauss(0, 0.002)
        step = 100 * (epoch + 1)
        events.append(Metrics(step, epoch, {"val/accuracy": value, "val/loss": 1 - value, "train/loss": 0.9 - value}))
        events.append(Report(step, epoch, value))
    reasons = ("RuntimeError: CUDA out of memory", "ValueError: loss is nan in epoch", "OSError: file of shard")
    failed = Failed(f"{draw.choice(reasons)} {draw.randrange(99)}", "Traceback")
    events.append(failed if state == STATE.FAIL else Finished({"fit_seconds": 30.0}))
    writer = EventWriter(folder / NAME)
    for event in events:
        writer.append(event)
    writer.close()
    return value


def measure(trials: int, validations: int, times: int, keep: Path | None) -> dict[str, float | int]:
    folder = Path(tempfile.mkdtemp(prefix="harness-report-"))
    try:
        make(folder / "mlruns", trials, validations)
        environment = {**os.environ, "HARNESS_HOME": str(folder / "mlruns")}
        took, size = [], 0
        for _ in range(times):
            began = time.perf_counter()
            command = [HARNESS, "report", "big", "--json", "--output", str(folder / "report.html")]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            took.append(time.perf_counter() - began)
            size = json.loads(result.stdout.splitlines()[-1])["bytes"]
        if keep is not None:
            shutil.copy(folder / "report.html", keep)
        return {"trials": trials, "validations": validations, "s": statistics.median(took), "MB": size / 1e6}
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10_000])
    parser.add_argument("--validations", type=int, default=30, help="of each trial (default: 30)")
    parser.add_argument("--times", type=int, default=3, help="how often the command is timed; the median counts")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="copy the last page to this file")
    options = parser.parse_args()
    for index, trials in enumerate(options.trials):
        row = measure(trials, options.validations, options.times, options.keep)
        if index == 0:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        cells = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
