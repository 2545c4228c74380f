"""The rival of rows 2 to 4, in its usual and, with --tuned, its best form: one process, one script.

.venv/bin/python benchmarks/rivals/usual.py points.json --epochs 1           as in the libraries' examples
.venv/bin/python benchmarks/rivals/usual.py points.json --epochs 1 --tuned   in-memory tensors, no checkpoints

Optuna asks, Lightning trains, MLFlowLogger logs to SQLite. The usual form loads MNIST image by image by
torchvision's transforms and a DataLoader, and saves Lightning's checkpoints; the tuned one slices batches from a
tensor in memory, uses a fused optimizer and saves none. Both log a metric every 50 steps, as the harness does.
points.json holds the hyperparameters of the trials, so that both sides do the same work.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

ROOT = os.environ.get("HARNESS_DATA") or str(Path.home() / ".cache" / "harness")
MEAN, STD = 0.1307, 0.3081


class Model(pl.LightningModule):
    def __init__(self, hidden_sizes: list[int], dropout: float, learning_rate: float, fused: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        features = 784
        for size in hidden_sizes:
            layers += [nn.Linear(features, size), nn.ReLU(), nn.Dropout(dropout)]
            features = size
        self.network = nn.Sequential(*layers, nn.Linear(features, 10))
        self.learning_rate, self.fused = learning_rate, fused

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict({"train/loss": loss, "train/accuracy": accuracy, "train/learning_rate": self.learning_rate})
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self.network(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict({"val/loss": F.cross_entropy(logits, labels), "val/accuracy": accuracy})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=self.fused)


class Batches:
    """Mini-batches of a tensor in memory."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, shuffle: bool) -> None:
        self.images, self.labels, self.batch_size, self.shuffle = images, labels, batch_size, shuffle

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Any:
        order = torch.randperm(len(self.labels)) if self.shuffle else torch.arange(len(self.labels))
        for chosen in order[: len(self) * self.batch_size].split(self.batch_size):
            yield self.images.index_select(0, chosen), self.labels.index_select(0, chosen)


class Data:
    """The loaders of either form; the tuned form's tensors are created once for all trials."""

    def __init__(self, tuned: bool) -> None:
        self.tuned = tuned
        normalize = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
        self.dataset = datasets.MNIST(ROOT, train=True, transform=normalize)
        order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))
        self.held_out, self.kept = order[:5000], order[5000:]
        if tuned:
            pixels = self.dataset.data.unsqueeze(1).float().div_(255 * STD).sub_(MEAN / STD)
            self.training = pixels[self.kept], self.dataset.targets[self.kept]
            self.validation = pixels[self.held_out], self.dataset.targets[self.held_out]

    def loaders(self, batch_size: int) -> tuple[Any, Any]:
        if self.tuned:
            return Batches(*self.training, batch_size, True), Batches(*self.validation, 500, False)
        training = Subset(self.dataset, self.kept.tolist())
        validation = Subset(self.dataset, self.held_out.tolist())
        return DataLoader(training, batch_size, shuffle=True, drop_last=True), DataLoader(validation, 500)


def _logger(folder: Path) -> MLFlowLogger:
    artifacts = (folder / "artifacts").as_uri()
    return MLFlowLogger("rival", tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=artifacts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", type=Path, help="JSON: a list of hyperparameters, one trial each")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=-1, help="stop after so many steps instead")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where the databases go")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data: list[Data] = []
    points = json.loads(options.points.read_text())
    batch_sizes = sorted({point["data.batch_size"] for point in points})
    layers = sorted({json.dumps(point["model.hidden_sizes"]) for point in points})

    def objective(trial: optuna.Trial) -> float:
        learning_rate = trial.suggest_float("model.learning_rate", 1e-4, 1e-1, log=True)
        batch_size = trial.suggest_categorical("data.batch_size", batch_sizes)
        hidden_sizes = trial.suggest_categorical("model.hidden_sizes", layers)
        dropout = trial.suggest_float("model.dropout", 0.0, 0.4)
        pl.seed_everything(trial.number, verbose=False)
        if not options.tuned or not data:
            data[:] = [Data(options.tuned)]
        model = Model(json.loads(hidden_sizes), dropout, learning_rate, fused=options.tuned)
        logger = _logger(options.folder)
        logger.log_hyperparams(trial.params)
        limits: dict[str, Any] = {"max_epochs": options.epochs}
        if options.steps >= 0:
            limits = {"max_steps": options.steps, "limit_val_batches": 1, "limit_train_batches": max(1, options.steps)}
        trainer = pl.Trainer(
            **limits,
            logger=logger,
            log_every_n_steps=50,
            default_root_dir=options.folder,
            enable_checkpointing=not options.tuned,
            enable_progress_bar=not options.tuned,
            enable_model_summary=not options.tuned,
        )
        trainer.fit(model, *data[0].loaders(batch_size))
        return float(trainer.callback_metrics["val/accuracy"])

    storage = f"sqlite:///{options.folder}/optuna.db"
    study = optuna.create_study(direction="maximize", storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for point in points:
        study.enqueue_trial({**point, "model.hidden_sizes": json.dumps(point["model.hidden_sizes"])})
    if points:
        _logger(options.folder).experiment  # noqa: B018  makes the database: that is start-up
    began = time.time()
    study.optimize(objective, n_trials=len(points))
    print(json.dumps({"seconds": time.time() - began, "best": study.best_value}))


if __name__ == "__main__":
    main()
