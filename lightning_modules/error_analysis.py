"""Error analysis: the data for pictures, computed from a dataloader's first samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_modules.tasks import Classification, Task

PICTURED_SAMPLES = 10_000  # number of samples, rounded up to whole batches
WORST_MISTAKES = 25
GRID = 120  # resolution of a decision boundary picture


@torch.no_grad()
def pictures_of_errors(
    module: LightningModule, task: Task, dataloader: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, dict[str, Any]]:
    """Arguments of pictures of a model's errors, from about the first 10,000 samples of a dataloader.

    Args:
        task: the meaning of its outputs.
        dataloader: yields inputs (B, ...) and targets (B,).

    Returns:
        For classes, confusion_matrix and, for images with mistakes, worst_mistakes; for two features,
        decision_boundary. For numbers, predicted_against_true. The arguments are those of the picture of that name in
        studies/.
    """
    training = module.training
    module.eval()
    seen = _look(module, task, dataloader)
    if isinstance(task, Classification):
        pictures = _pictures_of_classes(module, task, seen)
    else:
        truth, predicted = seen.targets.tolist(), seen.outputs.squeeze(1).tolist()
        pictures = {"predicted_against_true": {"truth": truth, "predicted": predicted}}
    module.train(training)
    return pictures


def _pictures_of_classes(module: LightningModule, task: Classification, seen: "_Seen") -> dict[str, dict[str, Any]]:
    predicted = task.probabilities(seen.outputs).argmax(dim=1)  # (N,)
    pairs = seen.targets * task.num_classes + predicted
    counts = torch.bincount(pairs, minlength=task.num_classes**2).view(task.num_classes, -1)
    pictures: dict[str, dict[str, Any]] = {"confusion_matrix": {"counts": counts.numpy(), "labels": task.class_names}}
    if seen.mistakes:
        inputs, targets, outputs = (torch.stack(column) for column in zip(*seen.mistakes, strict=True))
        probability = task.probabilities(outputs)  # (M, C)
        taken, rows = probability.argmax(dim=1), torch.arange(len(targets))
        pictures["worst_mistakes"] = {
            "images": _displayable(inputs).numpy(),
            "truth": [task.class_names[index] for index in targets],
            "predicted": [task.class_names[index] for index in taken],
            "truth_probability": probability[rows, targets].tolist(),
            "predicted_probability": probability[rows, taken].tolist(),
        }
    if seen.points:
        inputs = torch.cat(seen.points)
        low, high = inputs.amin(dim=0), inputs.amax(dim=0)
        margin = 0.1 * (high - low).clamp(min=1e-6)
        ranges = zip(low - margin, high + margin, strict=True)
        across, up = (torch.linspace(float(start), float(end), GRID) for start, end in ranges)
        points = torch.cartesian_prod(up, across).flip(1)  # rows from below, columns from the left
        of_points = task.probabilities(module(points.to(module.device)).cpu()).view(GRID, GRID, -1)
        pictures["decision_boundary"] = {
            "across": across.numpy(),
            "up": up.numpy(),
            "probabilities": of_points.numpy(),
            "points": inputs.numpy(),
            "classes": seen.targets.numpy(),
            "labels": task.class_names,
        }
    return pictures


@dataclass
class _Seen:
    """A model's outputs for some samples; only inputs to be shown are kept.

    Attributes:
        targets: (N,).
        outputs: float (N, outputs).
        points: the inputs, batch by batch, if they are two features.
        mistakes: input, target and outputs of wrongly classified images, lowest probability of the truth first.
    """

    targets: Tensor
    outputs: Tensor
    points: list[Tensor]
    mistakes: list[tuple[Tensor, Tensor, Tensor]]


def _look(module: LightningModule, task: Task, dataloader: Iterable[tuple[Tensor, Tensor]]) -> _Seen:
    """Runs a model on about PICTURED_SAMPLES samples of a dataloader; the results are on the CPU."""
    said: list[tuple[Tensor, Tensor]] = []
    points: list[Tensor] = []
    mistakes: list[tuple[float, Tensor, Tensor, Tensor]] = []
    samples = 0
    for inputs, targets in dataloader:
        outputs, targets = module(inputs.to(module.device)).float().cpu(), targets.cpu()
        said.append((targets, outputs))
        if inputs.dim() == 2 and inputs.shape[1] == 2:
            points.append(inputs.cpu())
        if inputs.dim() == 4 and isinstance(task, Classification):
            probability = task.probabilities(outputs)
            wrong = (probability.argmax(dim=1) != targets).nonzero().squeeze(1)
            of_truth = probability[wrong, targets[wrong]]
            worst = of_truth.argsort(stable=True)[:WORST_MISTAKES]
            wrong = wrong[worst]
            rows = zip(of_truth[worst].tolist(), inputs[wrong].cpu(), targets[wrong], outputs[wrong], strict=True)
            mistakes = sorted([*mistakes, *rows], key=lambda mistake: mistake[0])[:WORST_MISTAKES]
        samples += len(targets)
        if samples >= PICTURED_SAMPLES:
            break
    targets, outputs = (torch.cat(parts) for parts in zip(*said, strict=True))
    return _Seen(targets, outputs, points, [mistake[1:] for mistake in mistakes])


def _displayable(images: Tensor) -> Tensor:
    """(N, C, H, W) of any range -> (N, H, W), or (N, H, W, 3) in colour, of 0..1."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    images = ((images - low) / (high - low).clamp(min=1e-12)).float()
    return images.permute(0, 2, 3, 1) if images.shape[1] == 3 else images.mean(dim=1)
