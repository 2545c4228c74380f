"""Steps and metrics shared by models with one answer per input."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_modules.error_analysis import pictures_of_errors
from lightning_modules.interval_metrics import IntervalMetrics
from lightning_modules.optimizers import Optimizer, Schedule, checked, configure
from lightning_modules.tasks import Classification, Task


class Supervised(IntervalMetrics):
    """Classification or regression, depending on the task; a subclass builds the layers and `forward`.

    Logs `<split>/loss` and the task's other metrics. Sums stay on the device and are read once per logging
    interval in training, once per pass in validation and test.

    Args:
        task: the meaning of the outputs; see `lightning_modules.tasks`.
        optimizer: see `lightning_modules.optimizers.configure`.
        learning_rate: > 0.
        weight_decay: >= 0.
        schedule: course of the learning rate over all training steps.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        *,
        task: Task,
        optimizer: Optimizer,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.optimization = checked(optimizer, learning_rate, weight_decay, schedule)
        self.task = task

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def loss_and_outputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inputs, targets = batch
        outputs = self(inputs)  # (B, task.outputs)
        return self.task.loss(outputs, targets), (outputs, targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.add_evaluation(self(inputs), targets)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.add_evaluation(self(inputs), targets)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        return self.task.means(sums)

    def summed(self, *outputs: Tensor) -> Tensor:
        return self.task.summed(*outputs)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        """The model's answer to each input (B, ...): `answer`, and for classes their probabilities."""
        training = self.training
        self.eval()
        outputs = self(inputs.to(self.device)).float().cpu()
        self.train(training)
        if not isinstance(self.task, Classification):
            return [{"answer": value} for value in outputs.squeeze(1).tolist()]
        names = self.task.class_names
        answers = []
        for row in self.task.probabilities(outputs).tolist():
            best = max(range(len(row)), key=row.__getitem__)
            probabilities = dict(zip(names, row, strict=True))
            answers.append({"answer": names[best], "probability": row[best], "probabilities": probabilities})
        return answers

    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """Pictures of the model's errors, from about the first 10,000 samples of a dataloader."""
        return pictures_of_errors(self, self.task, dataloader)
