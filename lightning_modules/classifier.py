"""The steps, loss, metrics and pictures that image classifiers share."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.optimizers import Optimizer, Schedule, check_optimizer, configure
from lightning_modules.summed_metrics import SummedMetrics

PICTURED_SAMPLES = 10_000  # at most so many samples are looked at to draw the pictures
WORST_MISTAKES = 25


class Classifier(SummedMetrics):
    """Multinomial classification by cross-entropy; a subclass builds the layers and `forward`.

    Logs `<split>/loss` (nats, mean per sample) and `<split>/accuracy` (share, 0 to 1). Sums stay on the
    device and are read out once per logging interval in training, once per pass in validation and test.

    Args:
        num_classes: >= 2.
        class_names: one per class; None names them 0, 1, 2, ...
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
        num_classes: int,
        class_names: Sequence[str] | None,
        optimizer: Optimizer,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, but got {num_classes=}")
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names must hold {num_classes} names, but got {class_names=}")
        check_optimizer(optimizer, learning_rate, weight_decay, schedule)
        self.num_classes = num_classes
        self.class_names = list(class_names or map(str, range(num_classes)))
        self.optimization = {
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "schedule": schedule,
        }

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        logits = self(inputs)  # (B, C)
        self.add_training(logits, targets)
        return F.cross_entropy(logits, targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.add_evaluation(self(inputs), targets)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        loss, correct, samples = sums
        return {"loss": loss / samples, "accuracy": correct / samples}

    def summed(self, *outputs: Tensor) -> Tensor:
        """(3,) summed loss, correct, samples of logits (N, C) and targets (N,)."""
        logits, targets = outputs
        loss = F.cross_entropy(logits.float(), targets, reduction="sum")
        correct = (logits.argmax(dim=1) == targets).sum()
        return torch.stack([loss, correct.float(), torch.full_like(loss, len(targets))])

    @torch.no_grad()
    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """What shows how the classifier errs, from the first 10,000 samples or so of a dataloader.

        Args:
            dataloader: yields images (B, channels, height, width) and class numbers (B,).

        Returns:
            confusion_matrix: counts, int64 (C, C), rows = truth, columns = predicted; labels.
            worst_mistakes: the 25 wrongly classified images whose true class got the least probability, worst
                first, as float (N, H, W) or (N, H, W, 3), each stretched to 0..1; names and probabilities of
                the true and the predicted class. Left out if there are no mistakes.
        """
        training = self.training
        self.eval()
        counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        mistakes: list[tuple[float, float, int, int, Tensor]] = []
        for inputs, targets in dataloader:
            inputs, targets = inputs.to(self.device), targets.to(self.device)
            probability = self(inputs).softmax(dim=1)  # (B, C)
            predicted = probability.argmax(dim=1)
            pairs = (targets * self.num_classes + predicted).cpu()
            counts += torch.bincount(pairs, minlength=self.num_classes**2).view_as(counts)

            wrong = (predicted != targets).nonzero().squeeze(1)
            of_truth = probability[wrong, targets[wrong]]
            of_prediction = probability[wrong, predicted[wrong]]
            columns = (of_truth, of_prediction, targets[wrong], predicted[wrong])
            mistakes += zip(*(column.tolist() for column in columns), inputs[wrong].cpu(), strict=True)
            mistakes = sorted(mistakes, key=lambda mistake: mistake[0])[:WORST_MISTAKES]
            if counts.sum() >= PICTURED_SAMPLES:
                break
        self.train(training)

        pictures: dict[str, dict[str, Any]] = {
            "confusion_matrix": {"counts": counts.numpy(), "labels": self.class_names}
        }
        if mistakes:
            truth_probability, predicted_probability, truth, prediction, images = zip(*mistakes, strict=True)
            pictures["worst_mistakes"] = {
                "images": _displayable(torch.stack(images)).numpy(),
                "truth": [self.class_names[index] for index in truth],
                "predicted": [self.class_names[index] for index in prediction],
                "truth_probability": list(truth_probability),
                "predicted_probability": list(predicted_probability),
            }
        return pictures


def _displayable(images: Tensor) -> Tensor:
    """(N, C, H, W) of any range -> (N, H, W), or (N, H, W, 3) in colour, of 0..1."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    images = ((images - low) / (high - low).clamp(min=1e-12)).float()
    return images.permute(0, 2, 3, 1) if images.shape[1] == 3 else images.mean(dim=1)
