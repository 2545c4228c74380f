"""Modules that log in various ways, besides and instead of `self.log`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn
from toy import Toy


def drawing() -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().plot([0, 1, 2], [2, 0, 1])
    return figure


class Chatty(Toy):
    """Logs through `self.logger` and its experiment in training, validation and test."""

    def __init__(self, learning_rate: float = 0.1, num_features: int = 3) -> None:
        super().__init__(learning_rate=learning_rate, num_features=num_features)
        self.save_hyperparameters()

    def chat(self, stage: str) -> None:
        writer, run_id, step = self.logger.experiment, self.logger.run_id, self.global_step
        writer.add_scalar(f"{stage}/scalar", torch.tensor(float(step)), step)
        writer.add_image(f"{stage}/image", torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)), step)
        writer.add_figure(f"{stage}/figure", drawing(), step)
        writer.add_histogram(f"{stage}/weights", self.linear.weight, step)
        writer.add_text(f"{stage}/text", "some *text*", step)
        writer.add_graph(self, torch.rand(1, 3, generator=torch.Generator().manual_seed(0)))
        writer.log_metric(run_id, f"{stage}/client", step / 2, step=step)
        writer.log_text(run_id, "hello", f"notes/{stage}.txt")
        writer.log_figure(run_id, drawing(), f"plots/{stage}.png")
        writer.log_image(run_id, torch.zeros(4, 4, 3).numpy(), f"{stage}.png")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / f"{stage}.csv").write_text("1,2\n")
            writer.log_artifact(run_id, str(Path(folder) / f"{stage}.csv"), "tables")
        self.logger.log_metrics({f"{stage}/mine": 2.0}, step=step + 1000)
        self.logger.log_image(f"{stage}/wandb", [torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))], step)
        self.logger.log_table(f"{stage}/table", ["a", "b"], [[1, "x"], [2, "y"]], step=step)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.chat("train")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if batch_idx == 0:
            self.chat("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        if batch_idx == 0:
            self.chat("test")


class Several(Toy):
    """Logs per step and per epoch, from hooks, and by the logger's methods at custom steps."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.logger.log_metrics({"own": float(batch_idx)}, step=batch_idx)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("hook", float(self.current_epoch))
        self.logger.log_metrics({"per_epoch": float(self.current_epoch)}, step=self.current_epoch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self(batch[0]), batch[1]), on_step=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.log("step", 100.0 + self.current_epoch)  # Lightning uses it as the step of everything logged here


class TwoOptimizers(Several):
    """Takes two optimizer steps per batch (manual optimization)."""

    def __init__(self, learning_rate: float = 0.1, num_features: int = 3) -> None:
        super().__init__(learning_rate=learning_rate, num_features=num_features)
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        for optimizer in self.optimizers():
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"]) for _ in range(2)]


class Own(Logger):
    """A user's logger with an additional method."""

    name, version = "own", "1"

    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def applaud(self) -> None:
        self._write("applause")

    def finalize(self, status: str) -> None:
        self._write(status)

    def _write(self, line: str) -> None:
        with open("own.txt", "a") as file:
            file.write(f"{line}\n")


class Loyal(Toy):
    """Uses its own logger."""

    def on_train_epoch_end(self) -> None:
        self.logger.applaud()


class Talker(Callback):
    """A callback that logs, as LearningRateMonitor does."""

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"callback": float(trainer.global_step)}, step=trainer.global_step)
