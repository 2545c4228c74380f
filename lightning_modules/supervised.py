"""The steps, metrics and pictures that models share which turn one input into one answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_modules.optimizers import Optimizer, Schedule, checked, configure
from lightning_modules.summed_metrics import SummedMetrics
from lightning_modules.tasks import Classification, Task

PICTURED_SAMPLES = 10_000  # at most so many samples are looked at to draw the pictures
WORST_MISTAKES = 25
GRID = 120  # points across a picture of a decision boundary


class Supervised(SummedMetrics):
    """Classification or regression, as its task says; a subclass builds the layers and `forward`.

    Logs `<split>/loss` and the task's other metrics. Sums stay on the device and are read out once per logging
    interval in training, once per pass in validation and test.

    Args:
        task: what the outputs mean; see `lightning_modules.tasks`.
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
        self._said = _Said([])

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def loss_and_outputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inputs, targets = batch
        outputs = self(inputs)  # (B, task.outputs)
        return self.task.loss(outputs, targets), (outputs, targets)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._said = _Said([weight.detach().clone() for weight in _weights(self)])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        outputs = self(inputs)
        self.add_evaluation(outputs, targets)
        if self._said.samples < PICTURED_SAMPLES and isinstance(inputs, Tensor) and inputs.dim() > 1:
            self._said.batches.append((_marks(inputs), targets, outputs))
            self._said.samples += len(targets)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.add_evaluation(self(inputs), targets)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        return self.task.means(sums)

    def summed(self, *outputs: Tensor) -> Tensor:
        return self.task.summed(*outputs)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        """What the model says to each of some inputs (B, ...): `answer`, and for classes their probabilities."""
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

    @torch.no_grad()
    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """What shows how the model errs, from the first 10,000 samples or so of a dataloader.

        What the last validation has asked of the same weights is not computed again.

        Args:
            dataloader: yields inputs (B, ...) and targets (B,).

        Returns:
            For classes, confusion_matrix and, where the inputs are images and some were taken for another
            class, worst_mistakes; where the inputs are two features, decision_boundary. For numbers,
            predicted_against_true. The arguments of each are those of the picture of that name in studies/.
        """
        training = self.training
        self.eval()
        seen = _look(self, dataloader)
        if isinstance(self.task, Classification):
            pictures = self._pictures_of_classes(self.task, seen)
        else:
            truth, predicted = seen.targets.tolist(), seen.outputs.squeeze(1).tolist()
            pictures = {"predicted_against_true": {"truth": truth, "predicted": predicted}}
        self.train(training)
        return pictures

    def _pictures_of_classes(self, task: Classification, seen: "_Seen") -> dict[str, dict[str, Any]]:
        predicted = task.probabilities(seen.outputs).argmax(dim=1)  # (N,)
        pairs = seen.targets * task.num_classes + predicted
        counts = torch.bincount(pairs, minlength=task.num_classes**2).view(task.num_classes, -1)
        pictures: dict[str, dict[str, Any]] = {
            "confusion_matrix": {"counts": counts.numpy(), "labels": task.class_names}
        }
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
            of_points = task.probabilities(self(points.to(self.device)).cpu()).view(GRID, GRID, -1)
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
class _Said:
    """What a model said in its last validation.

    Attributes:
        weights: which said it: a copy, for fused optimizers change a tensor and don't say so (`_version`).
        batches: marks of the inputs, targets and outputs of each, of PICTURED_SAMPLES or just over.
        samples: in those.
    """

    weights: list[Tensor]
    batches: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    samples: int = 0


def _weights(module: torch.nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@dataclass
class _Seen:
    """What a model said to some samples: of the inputs no more is kept than is shown.

    Attributes:
        targets: (N,).
        outputs: float (N, outputs).
        points: the inputs, batch by batch, where they are two features.
        mistakes: input, target and outputs of the wrongly classified images, the least probable truth first.
    """

    targets: Tensor
    outputs: Tensor
    points: list[Tensor]
    mistakes: list[tuple[Tensor, Tensor, Tensor]]


def _look(module: Supervised, dataloader: Iterable[tuple[Tensor, Tensor]]) -> _Seen:
    """Asks a model about PICTURED_SAMPLES samples of a dataloader or just over; all that it returns is on the CPU."""
    task = module.task
    weights, before = _weights(module), module._said.weights
    # After a fit on a GPU the module lies on the CPU again, but not what it said.
    is_same = len(before) == len(weights) and all(
        torch.equal(was.to(weight.device), weight) for was, weight in zip(before, weights, strict=True)
    )
    known = module._said.batches if is_same else []
    said: list[tuple[Tensor, Tensor]] = []
    points: list[Tensor] = []
    mistakes: list[tuple[float, Tensor, Tensor, Tensor]] = []
    samples = 0
    for number, (inputs, targets) in enumerate(dataloader):
        outputs = _known_outputs(known, number, inputs, targets)
        if outputs is None:
            outputs = module(inputs.to(module.device))
        outputs, targets = outputs.float().cpu(), targets.cpu()
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


def _known_outputs(
    known: list[tuple[Tensor, Tensor, Tensor]], number: int, inputs: Tensor, targets: Tensor
) -> Tensor | None:
    """What was said to the n-th batch, if that was of these inputs and targets; else None."""
    if number >= len(known):
        return None
    marks, of, outputs = known[number]
    same = torch.equal(of, targets.to(of.device)) and torch.equal(marks, _marks(inputs.to(marks.device)))
    return outputs if same else None


def _marks(inputs: Tensor) -> Tensor:
    """A number (B,) by which to know each input (B, ...) again: all its values, added up with different weights."""
    flat = inputs.flatten(1).float()
    return flat @ torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype).sin()


def _displayable(images: Tensor) -> Tensor:
    """(N, C, H, W) of any range -> (N, H, W), or (N, H, W, 3) in colour, of 0..1."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    images = ((images - low) / (high - low).clamp(min=1e-12)).float()
    return images.permute(0, 2, 3, 1) if images.shape[1] == 3 else images.mean(dim=1)
