"""A module with a helper that git does not track yet; see test_replay.py."""

import csv
from pathlib import Path

import torch
from helper import WIDTH
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Dropout(0.1), nn.Linear(WIDTH, 1))

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Table(LightningDataModule):
    """Rows of numbers from a CSV file; the last column is the target."""

    def __init__(self, file: str = "table.csv") -> None:
        super().__init__()
        self.file = file

    def setup(self, stage: str) -> None:
        with Path(self.file).open() as file:
            rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(file)])
        self.data = TensorDataset(rows[:, :2], rows[:, 2:])

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.data, batch_size=8, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.data, batch_size=64)
