"""The rival of row 5: Ray Tune with OptunaSearch and its MLflow callback, at its best settings.

.venv/bin/python benchmarks/rivals/ray_tune.py points.json --workers 2

Actors are kept and reused for all trials, each with one core; they train the tuned form of usual.py: resident
tensors, no checkpoints, no progress bar. A trial reports once, at the end of its epoch, so Ray stores far fewer
metrics than the harness does. Prints {"seconds": from the first trial's training to the last trial's result}.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # no CSV, JSON and TensorBoard files beside MLflow
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytorch_lightning as pl
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch
from usual import Data, Model


class OneEpoch(tune.Trainable):
    """A trial of one epoch, in an actor that keeps the data from one trial to the next."""

    data: Data | None = None

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        if OneEpoch.data is None:
            OneEpoch.data = Data(tuned=True)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        began = time.time()
        assert OneEpoch.data is not None
        pl.seed_everything(0, verbose=False)
        config = self.config
        model = Model(json.loads(config["hidden_sizes"]), config["dropout"], config["learning_rate"], fused=True)
        trainer = pl.Trainer(
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, *OneEpoch.data.loaders(config["batch_size"]))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return {**metrics, "began": began, "done": True}


class Clock(tune.Callback):
    """When the first trial began to train, and when the last result was dealt with."""

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
        "learning_rate": tune.loguniform(3e-4, 3e-2),
        "batch_size": tune.choice([64, 128, 256, 512]),
        "hidden_sizes": tune.choice(["[128]", "[256, 128]", "[512, 256]", "[128, 128, 128]"]),
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
        tune.with_resources(OneEpoch, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val/accuracy",
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
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    results = tuner.fit()
    assert len(results) == len(points) and not results.errors, results.errors
    print(json.dumps({"seconds": Clock.last - Clock.first, "best": results.get_best_result().metrics["val/accuracy"]}))


if __name__ == "__main__":
    main()
