"""A module and datamodule that train in milliseconds, and misbehave on request."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from children import start_children
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import InMemoryLoader
from lightning_modules import MLP
from lightning_modules.interval_metrics import only_at_logged_steps


class Toy(LightningModule):
    """Linear regression.

    Args:
        learning_rate: step size of SGD, above 0.
        width: unused; a parameter with a few choices.
        num_features: length of an input; comes from the data.
        trouble: what goes wrong in the second epoch; "cured": raises until trials/cured exists.
        once: whether this only happens the first time the trial runs.
        seconds: sleep per training step.
    """

    def __init__(
        self,
        learning_rate: float = 0.1,
        width: int = 1,
        num_features: int = 1,
        trouble: Literal["none", "raise", "nan", "kill", "exit", "hang", "cured", "memory", "starve"] = "none",
        once: bool = False,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, but got {learning_rate=}")
        self.save_hyperparameters(logger=False)
        self.linear = nn.Linear(num_features, 1)
        self.dropout = nn.Dropout(0.1)  # draws random numbers, so that a lost generator state is visible

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # (B, F) -> (B, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        time.sleep(self.hparams["seconds"])
        if self.current_epoch == 1 and not self.trainer.sanity_checking:
            self._misbehave()
        loss = nn.functional.mse_loss(self.linear(self.dropout(batch[0])), batch[1])
        self.log("train/loss", loss)
        return loss

    def _misbehave(self) -> None:
        trouble = self.hparams["trouble"]
        mark = Path(self.trainer.default_root_dir) / "troubled"
        if trouble == "none" or (self.hparams["once"] and mark.exists()):
            return
        mark.touch()
        cure = Path(self.trainer.default_root_dir).with_name("cured")
        if trouble == "raise" or (trouble == "cured" and not cure.exists()):
            raise RuntimeError("the toy broke")
        if trouble == "memory":
            torch.empty(2**55, dtype=torch.uint8)
        if trouble == "starve":
            hoard = []
            while True:
                hoard.append(torch.ones(2**24))  # 64 MB
                time.sleep(0.02)
        if trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "exit":
            os._exit(7)
        if trouble == "hang":
            time.sleep(3600)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        if self.hparams["trouble"] == "nan":
            loss = loss * float("nan")
        self.log("val/loss", loss)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test/loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])


class ToyData(LightningDataModule):
    """Points on a line.

    Args:
        batch_size: between 1 and 32.
        points: number of points.
    """

    harness_links = ("sizes",)

    def __init__(self, batch_size: int = 8, points: int = 32) -> None:
        super().__init__()
        if not 1 <= batch_size <= points:
            raise ValueError(f"batch_size must be between 1 and the {points} points, but got {batch_size=}")
        self.batch_size = batch_size
        x = torch.linspace(-1, 1, points).repeat(3, 1).T.contiguous()
        self.data = TensorDataset(x, 2 * x[:, :1] + 1)

    @property
    def sizes(self) -> dict[str, Any]:
        return {"num_features": 3}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size)

    test_dataloader = val_dataloader


class ToyImages(LightningDataModule):
    """Random images of three classes, in memory like those of the shipped datamodules.

    Args:
        batch_size: images per batch.
        seed: for their order.
    """

    harness_links = ("seed", "sizes")

    def __init__(self, batch_size: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(104) % 3
        images = torch.randn(104, 1, 12, 12, generator=generator) + labels[:, None, None, None]
        self.tensors = (images, labels)

    @property
    def sizes(self) -> dict[str, Any]:
        return {
            "image_shape": [1, 12, 12],
            "input_shape": [1, 12, 12],
            "num_classes": 3,
            "class_names": ["a", "b", "c"],
        }

    def train_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(self.tensors, self.batch_size, shuffle=True, seed=self.seed, drop_last=True)

    def val_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(self.tensors, 50)


class Denormal(Toy):
    """Logs the value of a denormal number in its process: 0, as it requests."""

    flush_denormals = True

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.log("train/denormal", torch.full((1,), 1e-40) * torch.ones(1))
        return super().training_step(batch, batch_idx)


class InheritsDenormal(Denormal):
    """Does not request it itself."""


class Broken(Toy):
    """Raises in its first training step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        raise KeyError("broken on purpose")


class Fragile(MLP):
    """An MLP for ToyImages that raises after a number of steps."""

    packable_hyperparameters = (*MLP.packable_hyperparameters, "fails_at")

    def __init__(
        self,
        fails_at: int = 10**9,
        learning_rate: float = 1e-2,
        dropout: float = 0.0,
        input_shape: Sequence[int] = (1, 12, 12),
        num_classes: int = 3,
    ) -> None:
        super().__init__(
            hidden_sizes=[16],
            learning_rate=learning_rate,
            dropout=dropout,
            input_shape=input_shape,
            num_classes=num_classes,
        )
        self.fails_at = fails_at

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.global_step == self.fails_at:
            raise RuntimeError("the fragile one broke")


class Polling(Fragile):
    """Only raises at logged steps, so whole steps can be taken for it."""

    @only_at_logged_steps
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)


class Cycling(Polling):
    """Its schedule changes Adam's betas, too."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.optimization["learning_rate"], total_steps=1000)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Fading(Polling):
    """Its dropout decreases from epoch to epoch."""

    packable_hyperparameters = Polling.packable_hyperparameters

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        for layer in self.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p *= 0.7


class Unstackable(Fragile):
    """Overrides the inherited training step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


class Witness(Callback):
    """Records, for each rank, every value that a user's callback sees after a validation."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        with open(Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps({"step": trainer.global_step, **values}) + "\n")


class Killer(Callback):
    """Kills its process (kill -9) within a batch, the first time the trial gets there.

    Args:
        batch: 1-based index over all epochs.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        mark = Path(trainer.default_root_dir) / "killed"
        if trainer.fit_loop.total_batch_idx + 1 == self.batch and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class OwnSeed(ToyData):
    """A datamodule with attributes `seed` and `sizes` that are not declared as links."""

    harness_links = ()

    def __init__(self, seed: int = 42) -> None:
        super().__init__()
        self.seed = seed
        self.was_set_up = False

    def setup(self, stage: str) -> None:
        self.was_set_up = True
        super().setup(stage)


class WorkersData(ToyData):
    """The same points, loaded by worker processes, in training and validation."""

    def __init__(self, num_workers: int = 1, persistent: bool = False, batch_size: int = 8) -> None:
        super().__init__(batch_size)
        self.options = {"num_workers": num_workers, "persistent_workers": persistent}

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, shuffle=True, **self.options)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, **self.options)


class Starting(Toy):
    """Starts processes at the beginning of a fit and does not end them."""

    def on_fit_start(self) -> None:
        start_children(str(Path(self.trainer.default_root_dir) / "children"))


class Unusual(Toy):
    """Changes its process as user code may."""

    def __init__(self, habit: str = "none", num_features: int = 1) -> None:
        super().__init__(num_features=num_features)
        self.habit = habit

    def on_train_epoch_start(self) -> None:
        if self.habit == "moves":
            Path("elsewhere").mkdir(exist_ok=True)
            os.chdir("elsewhere")
        if self.habit == "closes":
            sys.stdout.close()
            sys.stderr.close()
            raise RuntimeError("a quiet death")
        if self.habit == "drops":
            sys.stdout = sys.stderr = None
            raise RuntimeError("a quiet death")
        if self.habit == "exits":
            sys.exit(0)
        if self.habit == "interrupts":
            raise KeyboardInterrupt
        if self.habit == "speechless":
            raise SpeechlessError
        if self.habit == "not quite text":
            raise RuntimeError("cannot read b\udce4r.png")
        if self.habit == "long":
            raise RuntimeError("tensor of " + "9" * 1_000_000)


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Telling(Toy):
    """Prints the loop that trains it."""

    def on_train_start(self) -> None:
        print(f"trained by {type(self.trainer.fit_loop.epoch_loop).__name__}")
