"""Tasks: the meaning of a model's outputs, with loss and metrics.

The data determine the task: Classification if the targets are classes, else Regression. Both define the number of
outputs, the loss, and metrics as quotients of sums over samples.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Output = Literal["auto", "softmax", "sigmoid", "identity"]

BINS = 2000  # histogram bins of scores for the area under the ROC curve
SCORES = 20.0  # log-odds beyond which scores are not distinguished


def precise(tensor: Tensor) -> torch.dtype:
    """The dtype for sums on a tensor's device: float64, or float32 on Apple's GPUs, which lack float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


class Classification:
    """Classes by cross-entropy: one output per class (softmax), or a single one for two classes (sigmoid).

    The two forms for two classes are the same model: a sigmoid of one output is a softmax over (0, output).
    Metrics: `loss` (nats, mean per sample), `accuracy` (share, 0 to 1) and, for two classes, `roc_auc`: the
    probability that a sample of class 1 scores higher than one of class 0 (Fawcett 2006, section 7).

    Args:
        num_classes: >= 2.
        class_names: one per class; None names them 0, 1, 2, ...
        sigmoid: one output instead of two; only for two classes.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, num_classes: int, class_names: Sequence[str] | None = None, sigmoid: bool = False) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, but got {num_classes=}")
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names must hold {num_classes} names, but got {class_names=}")
        if sigmoid and num_classes != 2:
            raise ValueError(f"output=sigmoid is for two classes, but got {num_classes=}")
        self.num_classes, self.sigmoid = num_classes, sigmoid
        self.class_names = list(class_names or map(str, range(num_classes)))
        self.outputs = 1 if sigmoid else num_classes

    def loss(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy, (), of outputs (B, `outputs`) against class numbers (B,), int64."""
        if self.sigmoid:
            return F.binary_cross_entropy_with_logits(
                outputs.squeeze(1), targets.to(outputs.dtype), reduction=reduction
            )
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(B, `num_classes`), each row sums to 1."""
        if self.sigmoid:
            return torch.cat([torch.sigmoid(-outputs), torch.sigmoid(outputs)], dim=1)
        return outputs.softmax(dim=1)

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed loss, correct answers, samples; for two classes also the histograms of scores of class 0 and 1."""
        outputs = outputs.float()
        loss = self.loss(outputs, targets, "sum")
        predicted = (outputs.squeeze(1) > 0).long() if self.sigmoid else outputs.argmax(dim=1)
        sums = torch.stack([loss, (predicted == targets).sum().float(), torch.full_like(loss, len(targets))])
        if self.num_classes != 2:
            return sums
        score = outputs[:, -1] if self.sigmoid else outputs[:, 1] - outputs[:, 0]  # log-odds
        bins = ((score / SCORES + 1) * (BINS / 2)).long().clamp(0, BINS - 1) + targets * BINS
        return torch.cat([sums, torch.bincount(bins, minlength=2 * BINS).float()])

    def means(self, sums: Tensor) -> dict[str, Tensor]:
        """Metrics from the result of `summed`."""
        loss, right, samples = sums[:3]
        metrics = {"loss": loss / samples, "accuracy": right / samples}
        if self.num_classes == 2:
            negative, positive = sums[3:].to(precise(sums)).view(2, BINS)
            lower = negative.cumsum(0) - negative / 2  # a tie counts half
            metrics["roc_auc"] = ((positive * lower).sum() / (positive.sum() * negative.sum())).float()
        return metrics


class Regression:
    """Numbers by squared error.

    Metrics: `loss`, the mean squared error in units of the targets' variance, so that learning rates are independent
    of the unit; `rmse`, its root in the targets' own unit; `r2`, the share of the variance that is explained.

    Args:
        scale: the targets' standard deviation over the training samples, > 0.

    Raises:
        ValueError: the scale is not positive.
    """

    outputs = 1

    def __init__(self, scale: float = 1.0) -> None:
        if not scale > 0:
            raise ValueError(f"target_scale must be greater than 0, but got {scale=}")
        self.scale = scale

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error, (), of outputs (B, 1) against targets (B,), over `scale` squared."""
        return F.mse_loss(outputs.squeeze(1), targets) / self.scale**2

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed squared error, samples, targets and squared targets, in units of the scale."""
        targets = targets.to(precise(targets)) / self.scale
        error = outputs.squeeze(1).to(targets.dtype) / self.scale - targets
        return torch.stack(
            [error.square().sum(), torch.full_like(error[0], len(error)), targets.sum(), targets.square().sum()]
        )

    def means(self, sums: Tensor) -> dict[str, Tensor]:
        """Metrics from the result of `summed`."""
        error, samples, total, squares = sums
        variance = squares - total**2 / samples
        return {
            "loss": (error / samples).float(),
            "rmse": ((error / samples).sqrt() * self.scale).float(),
            "r2": (1 - error / variance).float(),
        }


Task = Classification | Regression


def task_of(
    num_classes: int | None, class_names: Sequence[str] | None, target_scale: float, output: Output = "auto"
) -> Task:
    """The task for data with `num_classes` classes (None: targets are numbers) and the requested output.

    Raises:
        ValueError: the output does not fit the targets.
    """
    if output not in ("auto", "softmax", "sigmoid", "identity"):
        raise ValueError(f"output must be one of auto, softmax, sigmoid, identity, but got {output=}")
    if num_classes is None:
        if output not in ("auto", "identity"):
            raise ValueError(f"output must be auto or identity where the targets are numbers, but got {output=}")
        return Regression(target_scale)
    if output == "identity":
        raise ValueError("output must be auto, softmax or sigmoid where the targets are classes, but got identity")
    return Classification(num_classes, class_names, sigmoid=output == "sigmoid")
