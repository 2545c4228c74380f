"""Modules, data and a callback with features that make resuming hard; see test_resume.py."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler


class Net(LightningModule):
    """Eight numbers to three classes, with dropout: a lost random state changes the results."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.02)


class SumsOverEpochs(Net):
    """Accumulates values that are not in checkpoints, so it only stops between epochs."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss


class Plateau(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss", "strict": False}}


class OneCycle(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class DrawsInHooks(Net):
    """Draws from all generators in every hook of a fit."""

    def setup(self, stage: str) -> None:
        torch.rand(2)

    def on_fit_start(self) -> None:
        np.random.rand(3)

    def on_train_start(self) -> None:
        torch.rand(5)

    def on_train_epoch_start(self) -> None:
        self.noise = 0.01 * torch.rand(1).item() + 0.01 * random.random()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        assert loss is not None
        return loss * (1 + self.noise)

    def on_validation_epoch_start(self) -> None:
        torch.rand(1)

    def on_train_epoch_end(self) -> None:
        self.log("drawn", torch.rand(1).item() + float(np.random.rand()))


class ChangesWeights(Net):
    """Shrinks its weights after each batch, and more after each epoch: the best weights only exist in between."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            self.net[0].weight.mul_(0.999)

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            self.net[0].weight.mul_(0.9)


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()  # type: ignore[misc]
        for optimizer in (first, second):
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            optimizer.step()
        self.log("train/loss", loss)

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.net[0].parameters(), lr=0.02)
        return first, torch.optim.SGD(self.net[4].parameters(), lr=0.1, momentum=0.9)


class TwoLoaders(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = sum(self.loss(part) for part in batch.values())
        self.log("train/loss", loss)
        return loss  # type: ignore[return-value]


class OwnObjects(Net):
    """Saves an object that weights_only=True rejects."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["where"] = Path(".")

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5 * (1 + np.cos(epoch / 9)))
        return [optimizer], [schedule]


class Torchmetrics(Net):
    def __init__(self) -> None:
        super().__init__()
        self.accuracy = torchmetrics.MeanMetric()
        self.sum = torchmetrics.SumMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        self.sum.update(batch[0].sum())  # logged in another hook
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        self.log("train/sum", self.sum.compute())
        self.sum.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.accuracy((self.net(batch[0]).argmax(1) == batch[1]).float())
        self.log("val/accuracy", self.accuracy)


class Counter(Callback):
    """Counts, and the count affects the training."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs += 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        trainer.optimizers[0].param_groups[0]["lr"] = 0.02 / (1 + self.epochs)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


class Augmented(Dataset[Any]):
    """Draws noise for each item, from the process's generators."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.data[index]
        return inputs + 0.1 * torch.randn(8), target


class Data(LightningDataModule):
    """48 rows in batches of 8, loaded in one of many ways."""

    def __init__(self, kind: str = "plain", workers: int = 0) -> None:
        super().__init__()
        self.kind, self.workers = kind, workers
        inputs = torch.randn(48, 8, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(inputs, inputs[:, :3].argmax(1))
        self.generator = torch.Generator().manual_seed(9)

    def train_dataloader(self) -> Any:
        options: dict[str, Any] = {"batch_size": 8, "num_workers": self.workers, "shuffle": True}
        if self.kind == "generator":
            return DataLoader(self.data, generator=self.generator, **options)
        if self.kind == "augmented":
            return DataLoader(Augmented(self.data), **options)
        if self.kind == "weighted":
            return DataLoader(self.data, 8, sampler=WeightedRandomSampler(torch.arange(48.0) + 1, 48))
        if self.kind == "two":
            return {"a": DataLoader(self.data, **options), "b": DataLoader(self.data, **{**options, "batch_size": 16})}
        if self.kind == "drawing loader":
            torch.rand(4)
        return DataLoader(self.data, **options)

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, 24)
