"""The rivals of row 17: a search with pruning, by Optuna and Lightning or by Ray Tune's ASHA.

.venv/bin/python benchmarks/rivals/pruned_search.py optuna --trials 20 --epochs 4 --seed 0
.venv/bin/python benchmarks/rivals/pruned_search.py ray --trials 20 --epochs 4 --seed 0

Both search mnist_mlp's space. Optuna has TPE, SuccessiveHalvingPruner with our settings and a Lightning callback that
reports after each validation and raises TrialPruned, as optuna-integration's does (which imports `lightning`, so it is
written out here); loaders are torchvision's, as in the libraries' examples, or with --tuned in-memory tensors. Ray Tune
has OptunaSearch, AsyncHyperBandScheduler, two actors, reused, and in-memory tensors. Prints a list of [seconds since
this process began, validation accuracy], one for each trial that ran to its end, best epoch.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytorch_lightning as pl
import torch
from usual import Data, Model

BEGAN = psutil.Process().create_time()
HIDDEN = [[128], [256, 128], [512, 256], [128, 128, 128]]
BATCHES = [64, 128, 256, 512]
FINISHED: list[tuple[float, float]] = []


class Reports(pl.Callback):
    """Passes the accuracy of each validation on."""

    def __init__(self, report: Any) -> None:
        self.report, self.best = report, 0.0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            accuracy = float(trainer.callback_metrics["val/accuracy"])
            self.best = max(self.best, accuracy)
            self.report(accuracy, trainer.current_epoch + 1)


def fit(point: dict[str, Any], epochs: int, seed: int, data: Data, report: Any, folder: Path) -> float:
    pl.seed_everything(seed, verbose=False)
    model = Model(json.loads(point["hidden_sizes"]), point["dropout"], point["learning_rate"], fused=data.tuned)
    reports = Reports(report)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=epochs, logger=False, callbacks=[reports], default_root_dir=folder, **quiet)
    trainer.fit(model, *data.loaders(point["batch_size"]))
    return reports.best


def by_optuna(options: argparse.Namespace, folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = Data(options.tuned)

    def objective(trial: optuna.Trial) -> float:
        point = {
            "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-2, log=True),
            "batch_size": trial.suggest_categorical("batch_size", BATCHES),
            "hidden_sizes": trial.suggest_categorical("hidden_sizes", [json.dumps(sizes) for sizes in HIDDEN]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.4),
        }

        def report(value: float, step: int) -> None:
            trial.report(value, step)
            if step < options.epochs and trial.should_prune():
                raise optuna.TrialPruned

        best = fit(point, options.epochs, trial.number, data, report, folder)
        FINISHED.append((time.time() - BEGAN, best))
        return best

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    sampler = optuna.samplers.TPESampler(seed=options.seed)
    storage = f"sqlite:///{folder}/optuna.db"
    study = optuna.create_study(direction="maximize", storage=storage, sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=options.trials)


def by_ray(options: argparse.Namespace, folder: Path) -> None:
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler
    from ray.tune.search.optuna import OptunaSearch

    epochs = options.epochs
    kept: list[Data] = []  # an actor's, between trials

    def trial(config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        if not kept:
            kept.append(Data(tuned=True))

        def report(value: float, step: int) -> None:
            tune.report({"accuracy": value})

        fit(config, epochs, 0, kept[0], report, Path(tempfile.gettempdir()))

    class Ends(tune.Callback):
        """Notes the trials that ran to their end."""

        best: dict[str, float] = {}

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            Ends.best[trial.trial_id] = max(Ends.best.get(trial.trial_id, 0.0), result["accuracy"])
            if result["training_iteration"] == epochs:
                FINISHED.append((time.time() - BEGAN, Ends.best[trial.trial_id]))

    space = {
        "learning_rate": tune.loguniform(3e-4, 3e-2),
        "batch_size": tune.choice(BATCHES),
        "hidden_sizes": tune.choice([json.dumps(sizes) for sizes in HIDDEN]),
        "dropout": tune.uniform(0.0, 0.4),
    }
    here = str(Path(__file__).parent)
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    environment = {"env_vars": {"PYTHONPATH": paths}}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(num_cpus=2, runtime_env=environment, **quiet)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(seed=options.seed),
            scheduler=AsyncHyperBandScheduler(max_t=epochs, grace_period=1, reduction_factor=2),
            num_samples=options.trials,
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[Ends()], verbose=0),
    )
    tuner.fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("optuna", "ray"))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tuned", action="store_true", help="Optuna's loaders are in-memory tensors")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        (by_optuna if options.library == "optuna" else by_ray)(options, Path(folder))
    print(json.dumps(FINISHED))


if __name__ == "__main__":
    main()
