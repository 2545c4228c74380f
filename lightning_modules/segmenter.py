"""Semantic segmentation: a class for each pixel of an image (Long et al. 2015, arXiv:1411.4038)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.interval_metrics import IntervalMetrics
from lightning_modules.optimizers import Optimizer, Schedule, checked, configure
from lightning_modules.tasks import precise
from lightning_modules.unet import UNet, check_image

STRIDE = 2
PICTURED_CANVASES = 8
LEAST = 12  # minimum pixels of a class to be named in an answer


class Segmenter(IntervalMetrics):
    """A fully convolutional network that gives every pixel a class: 0 is background, 1 + c class c.

    Logs loss (nats, mean per pixel), accuracy (share of correct pixels) and, in validation and test, mean_iou:
    intersection over union of true and predicted pixels, averaged over the occurring classes, including background
    (Everingham et al. 2010, section 4.3).

    Args:
        width: channels at the finest level, >= 1.
        depth: levels, each half as large as the one above, >= 1.
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on kernels only.
        schedule: course of the learning rate over all training steps.
        image_shape: (channels, height, width), from the data; each side a multiple of 2**depth.
        num_classes: number of classes besides the background, from the data.
        class_names: one per class, from the data.

    Raises:
        ValueError: an argument is outside its range.
    """

    keeps_no_state = True  # so trials may share a process: all state is in instances
    flush_denormals = True

    def __init__(
        self,
        width: int = 16,
        depth: int = 3,
        optimizer: Optimizer = "adam",
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "onecycle",
        image_shape: Sequence[int] = (1, 64, 64),
        num_classes: int = 10,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.optimization = checked(optimizer, learning_rate, weight_decay, schedule)
        self.save_hyperparameters(logger=False)
        self.num_classes = num_classes
        self.class_names = list(class_names or map(str, range(num_classes)))
        channels, height, image_width = image_shape
        self.network = UNet(channels, (1 + num_classes) * STRIDE**2, STRIDE, width, depth)
        self.network.to(memory_format=torch.channels_last)
        check_image((height, image_width), self.network.multiple)

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1 + num_classes, H, W) of images (B, channels, H, W), float."""
        return F.pixel_shuffle(self.network(images), STRIDE)

    def loss_and_outputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        images, masks = batch
        logits = self(images)
        loss = F.cross_entropy(logits, masks)
        return loss, (self._counts(logits, masks, loss)[None],)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, masks = batch
        logits = self(images)
        self.add_evaluation(self._counts(logits, masks, F.cross_entropy(logits, masks))[None])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def _counts(self, logits: Tensor, masks: Tensor, loss: Tensor) -> Tensor:
        """Summed loss, then pixel counts by true and predicted class, row by row."""
        classes = 1 + self.num_classes
        pairs = masks * classes + logits.argmax(dim=1)
        counts = torch.bincount(pairs.flatten(), minlength=classes**2)
        kind = precise(counts)
        return torch.cat([loss.detach().to(kind)[None] * masks.numel(), counts.to(kind)])

    def summed(self, *outputs: Tensor) -> Tensor:
        (sums,) = outputs  # a row per batch, already summed: outputs of all pixels would be too large
        return sums.sum(dim=0)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        loss, counts = sums[0], sums[1:].view(1 + self.num_classes, -1)
        pixels = counts.sum()
        metrics = {"loss": (loss / pixels).float(), "accuracy": (counts.trace() / pixels).float()}
        if split != "train":
            metrics["mean_iou"] = mean_iou(counts)
        return metrics

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        """The model's answer for each image (B, channels, H, W).

        Returns:
            `answer`, the found classes, separated by spaces; `pixels`, the number of each; and `mask`, rows of class
            numbers, 0 for background.
        """
        training = self.training
        self.eval()
        masks = self(inputs.to(self.device)).argmax(dim=1).cpu()
        self.train(training)
        answers = []
        for mask in masks:
            counts = torch.bincount(mask.flatten(), minlength=1 + self.num_classes)[1:].tolist()
            pixels = {name: count for name, count in zip(self.class_names, counts, strict=True) if count >= LEAST}
            answers.append({"answer": " ".join(pixels), "pixels": pixels, "mask": mask.tolist()})
        return answers

    @torch.no_grad()
    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """masked_canvases: some images of a dataloader, with true and predicted classes of each pixel."""
        training = self.training
        self.eval()
        images, masks = (part[:PICTURED_CANVASES] for part in next(iter(dataloader)))
        said = self(images.to(self.device)).argmax(dim=1)
        self.train(training)
        arguments = {"images": images.mean(dim=1), "truth": masks, "predicted": said}
        arrays = {name: tensor.cpu().numpy() for name, tensor in arguments.items()}
        return {"masked_canvases": {**arrays, "labels": self.class_names}}


def mean_iou(counts: Tensor) -> Tensor:
    """Mean intersection over union, (), of pixel counts by true and predicted class (C, C)."""
    both = counts.diagonal()
    either = counts.sum(dim=0) + counts.sum(dim=1) - both
    occurs = either > 0
    return (both[occurs] / either[occurs]).mean().float()
