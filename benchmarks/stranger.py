"""Rows 15 and 16: a module as anybody writes it, which knows nothing of the harness; by itself the rival's side.

python benchmarks/stranger.py Stranger     prints the seconds of plain `Trainer.fit` without any logger
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings

import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, ROWS, BATCH_SIZE = 3, 32_000, 64  # 1,500 steps


class Data(pl.LightningDataModule):
    """Random rows of 32 numbers, whose class is where the largest of the first ten is."""

    def __init__(self, batch_size: int = BATCH_SIZE) -> None:
        super().__init__()
        self.batch_size = batch_size
        rows = torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(0))
        self.rows = TensorDataset(rows, rows[:, :10].argmax(1))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.rows, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(*self.rows[:1000]), 500)


class Stranger(pl.LightningModule):
    """A small MLP that logs its loss and accuracy, both shown in the progress bar."""

    def __init__(self, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        logits = self.net(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/accuracy", self.accuracy_of(logits, batch[1]), prog_bar=True)
        return loss

    def accuracy_of(self, logits: Tensor, targets: Tensor) -> Tensor | torchmetrics.Metric:
        return (logits.argmax(1) == targets).float().mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class WithTorchmetrics(Stranger):
    """The same with a torchmetrics object, logged by step and by epoch."""

    def __init__(self, learning_rate: float = 1e-3) -> None:
        super().__init__(learning_rate)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def accuracy_of(self, logits: Tensor, targets: Tensor) -> torchmetrics.Metric:
        self.accuracy(logits, targets)
        return self.accuracy


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pl.seed_everything(0, workers=True, verbose=False)
    module, data = globals()[sys.argv[1]](), Data()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    began = time.perf_counter()
    trainer.fit(module, datamodule=data)
    print(json.dumps({"seconds": time.perf_counter() - began, "value": float(trainer.callback_metrics["val/loss"])}))


if __name__ == "__main__":
    main()
