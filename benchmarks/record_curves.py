"""Records the curves of a study without pruning in benchmarks/curves/, for row 18 of bench.py.

.venv/bin/python benchmarks/record_curves.py tabular_regression --trials 120

The trials are those of `harness study NAME --sampler random --pruner none`: the same parameters and seeds, built and
trained by the code of a trial, so with the same values. They are trained one after the other in this process, without
databases and pictures, which take most of the time of trials this small. `--like STUDY` compares with such a study in
the state folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from studies.common.class_paths import class_named
from studies.common.plain import acceleration
from studies.common.state_folder import StateFolder
from studies.config.experiment import load
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search, derive_seed
from studies.search.recorded_curves import Curve, curves_of
from studies.trial.instantiate import build
from studies.trial.logger import EventLogger
from studies.trial.trainer import build_trainer, flush_denormals, seed_and_threads

CURVES = Path(__file__).parent / "curves"
DIGITS = 6  # significant ones of a value


class Values(Callback):
    """The metric at each validation."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.values: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.values.append(float(trainer.callback_metrics[self.metric]))


def record(name: str, trials: int) -> dict[str, Any]:
    experiment = load(name)
    plan = experiment.search
    assert plan is not None
    flush_denormals(class_named(experiment.sections["model"]))
    fast = acceleration()
    faster = fast.for_trial().prepare_trainer if fast else None
    curves = []
    best = max if plan.direction == "maximize" else min
    definition = {"space": plan.space_as_written, "metric": plan.metric, "direction": plan.direction}
    definition["seed"] = experiment.seed
    with tempfile.TemporaryDirectory() as folder:
        search = Search(f"sqlite:///{folder}/o.db", name, definition, plan.space, "random", "none", None)
        for number in range(trials):
            params = search.ask().params
            seed = derive_seed(experiment.seed, number, "training")
            spec = TrialSpec("recorded", experiment.with_params(params), seed, folder, metric=plan.metric, threads=1)
            began = time.time()
            seed_and_threads(spec)
            parts, values = build(spec.experiment, seed), Values(plan.metric)
            quiet = {"enable_checkpointing": False, "default_root_dir": folder}
            trainer = build_trainer(
                spec, parts, EventLogger(None, Path(folder), "recorded"), [], [values], faster, **quiet
            )
            trainer.fit(parts.module, datamodule=parts.datamodule)
            reports = [float(f"{value:.{DIGITS}g}") for value in values.values]
            times = round(began, 2), round(time.time(), 2)
            curves.append(Curve(number, *times, params, reports, best(reports)).to_json())
            if number % 20 == 19:
                print(f"{name}: {number + 1} of {trials}", flush=True)
    return {**definition, "curves": curves}


def compared(found: dict[str, Any], study: str) -> str:
    """How many curves are those of a study, to the digits that are kept."""
    recorded, _ = curves_of(Search.existing(StateFolder.find().storage, study))
    ours = {curve["number"]: curve for curve in found["curves"]}
    both = [(curve, ours[curve.number]) for curve in recorded if curve.number in ours]
    same = [a for a, b in both if [float(f"{value:.{DIGITS}g}") for value in a.reports] == b["reports"]]
    return f"{len(same)} of {len(both)} curves are those of study {study}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--like", metavar="STUDY")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name in options.experiments:
        found = record(name, options.trials)
        if options.like:
            print(compared(found, options.like))
        path = CURVES / f"{name}.json.gz"
        path.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))
        print(f"{path.name}: {len(found['curves'])} curves, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
