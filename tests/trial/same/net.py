"""Modules and data as users write them, each with a particular feature; see test_same_as_lightning.py."""

from __future__ import annotations

import enum
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def points(count: int = 48) -> TensorDataset:
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, inputs[:, :3].argmax(1))


class Data(LightningDataModule):
    def __init__(self, batch_size: int = 8, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers

    def setup(self, stage: str) -> None:
        self.points = points()

    def train_dataloader(self) -> Any:
        return DataLoader(self.points, self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> Any:
        return DataLoader(self.points, 16, num_workers=self.num_workers)


class Net(LightningModule):
    """Draws random numbers for its weights and its dropout."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.net: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)


class Reduction(enum.Enum):
    MEAN = "mean"
    SUM = "sum"


class Summing(Net):
    """An enum passed as text would change the weights."""

    def __init__(self, reduction: Reduction = Reduction.SUM) -> None:
        super().__init__(0.01)
        self.reduction = reduction

    def loss(self, batch: Any) -> Tensor:
        loss = super().loss(batch)
        return loss * len(batch[0]) if self.reduction is Reduction.SUM else loss


class Weighted(Net):
    """So would keys passed as text."""

    def __init__(self, weights: dict[int, float] = {0: 5.0, 2: 0.1}) -> None:  # noqa: B006
        super().__init__()
        self.weights = torch.tensor([weights.get(index, 1.0) for index in range(3)])

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1], weight=self.weights)


class Nested(Net):
    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(body, nn.Tanh(), head)


class OwnLoaders(Net):
    def train_dataloader(self) -> Any:
        return DataLoader(points(), 8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(points(), 16)


class WithoutOptimizer(Net):
    configure_optimizers = LightningModule.configure_optimizers  # for the sections optimizer and lr_scheduler
