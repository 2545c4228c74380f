"""The rival of row 5: Ray Tune with OptunaSearch and its MLflow callback, at its best settings.

.venv/bin/python benchmarks/rivals/ray_tune.py points.json --workers 2

Actors are reused for all trials, each with one core; they train the tuned form of usual.py: in-memory tensors, no
checkpoints, no progress bar. A trial reports everything that Lightning logs, every 50 steps and after validation, so as
many metrics are stored as by the harness. Prints {"seconds": from the first trial's training to the last's result}.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
os.environ.setdefault(
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"
)  # no CSV, JSON and TensorBoard files in addition to MLflow
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytorch_lightning as pl
import ray
import torch
from pytorch_lightning.loggers.logger import Logger
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch
from usual import Data, Model

DATA: list[Data] = []  # an actor's data, kept between trials


class Reports(Logger):
    """A Lightning logger that reports to Ray, with the values that Ray and its search need each time."""

    name, version = "reports", ""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.time()

    def log_hyperparams(self, *arguments: Any) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        tune.report({**metrics, "objective": metrics.get("val/accuracy", 0.0), "began": self.began})


def one_epoch(config: dict[str, Any]) -> None:
    """A trial of one epoch."""
    reports = Reports()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pl.seed_everything(0, verbose=False)
    if not DATA:
        DATA.append(Data(tuned=True))
    model = Model(json.loads(config["hidden_sizes"]), config["dropout"], config["learning_rate"], fused=True)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=reports,
        log_every_n_steps=50,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, *DATA[0].loaders(config["batch_size"]))


class Clock(tune.Callback):
    """Times of the first trial's start of training and of the last processed result."""

    first, last = float("inf"), 0.0

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        Clock.first = min(Clock.first, result["began"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        Clock.last = time.time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", type=Path, help="JSON: a list of hyperparameters, one trial each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("."), help="where results and the database go")
    options = parser.parse_args()
    points = [
        {
            "learning_rate": point["model.learning_rate"],
            "batch_size": point["data.batch_size"],
            "hidden_sizes": json.dumps(point["model.hidden_sizes"]),
            "dropout": point["model.dropout"],
        }
        for point in json.loads(options.points.read_text())
    ]
    space = {
        "learning_rate": tune.loguniform(1e-4, 1e-1),
        "batch_size": tune.choice(sorted({point["batch_size"] for point in points})),
        "hidden_sizes": tune.choice(sorted({point["hidden_sizes"] for point in points})),
        "dropout": tune.uniform(0.0, 0.4),
    }
    here = str(Path(__file__).parent)
    ray.init(
        num_cpus=options.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    tracking = MLflowLoggerCallback(tracking_uri=f"sqlite:///{options.folder}/mlflow.db", experiment_name="rival")
    tuner = tune.Tuner(
        tune.with_resources(one_epoch, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=points),
            num_samples=len(points),
            max_concurrent_trials=options.workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(options.folder.resolve()),
            callbacks=[tracking, Clock()],
            verbose=0,
        ),
    )
    results = tuner.fit()
    assert len(results) == len(points) and not results.errors, results.errors
    print(json.dumps({"seconds": Clock.last - Clock.first, "best": results.get_best_result().metrics["objective"]}))


if __name__ == "__main__":
    main()
