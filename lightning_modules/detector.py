"""Object detection, one-stage: classes and boxes for each place of an image.

After one-stage, anchor-free detectors (Tian et al. 2019, FCOS, arXiv:1904.01355; Zhou et al. 2019, CenterNet,
arXiv:1904.07850). Shapes: B batch, M maximum objects per image, P places, C classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import generalized_box_iou_loss, nms

from lightning_modules.interval_metrics import IntervalMetrics
from lightning_modules.optimizers import Optimizer, Schedule, checked, configure
from lightning_modules.unet import UNet, check_image

STRIDE = 4
BOX = 4  # numbers per box: distances of the left, top, right and bottom edge from the place's centre
SAME = 0.5  # intersection over union from which two boxes count as the same object
LEAST = 0.05  # minimum probability of boxes in the average precision
SURE = 0.5  # minimum probability of boxes in answers
PICTURED_CANVASES = 8


class Detector(IntervalMetrics):
    """A fully convolutional network that predicts for each place (4x4 pixels) whether it contains an object's centre.

    It also predicts the object's class and the distances of its box's edges. In training, the place with an object's
    centre is trained on all three, by cross-entropy and generalized IoU (Rezatofighi et al. 2019); all other places are
    trained on the absence of an object. Non-maximum suppression keeps the most probable box of each object.

    Logs loss and, in validation and test, map_50: average precision over recall at an intersection over union
    of at least 0.5, the mean over classes (COCO's, by torchmetrics and pycocotools).

    Args:
        width: channels at the finest level, >= 1.
        depth: levels, each half as large as the one above, >= 1.
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on kernels only.
        schedule: course of the learning rate over all training steps.
        image_shape: (channels, height, width), from the data; each side a multiple of 2 * 2**depth.
        num_classes: number of classes, from the data.
        class_names: one per class, from the data.

    Raises:
        ValueError: an argument is outside its range.
    """

    keeps_no_state = True  # so trials may share a process: all state is in instances
    flush_denormals = True

    def __init__(
        self,
        width: int = 32,
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
        self.network = UNet(channels, BOX + 1 + num_classes, STRIDE, width, depth)
        self.network.to(memory_format=torch.channels_last)
        check_image((height, image_width), self.network.multiple)
        self._average_precision = MeanAveragePrecision(iou_thresholds=[0.5])

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def forward(self, images: Tensor) -> Tensor:
        """Predictions (B, P, 4 + C) for images (B, channels, H, W), float.

        The first four numbers are the left, top, right and bottom edge of a box in pixels, the others the
        probability of each class.
        """
        boxes, presence, classes = self._places(images)
        return torch.cat([boxes, presence.sigmoid()[..., None] * classes.softmax(dim=2)], dim=2)

    def _places(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, P, 4), objectness logits (B, P), and class logits (B, P, C)."""
        outputs = self.network(images)  # (B, 4 + 1 + C, h, w)
        rows, columns = outputs.shape[2:]
        outputs = outputs.flatten(2).transpose(1, 2)  # (B, P, 4 + 1 + C), places row by row
        steps = torch.arange(rows * columns, device=outputs.device)
        middles = (torch.stack([steps % columns, steps // columns], dim=1) + 0.5) * STRIDE  # (P, 2)
        distances = F.softplus(outputs[..., :BOX]) * STRIDE
        boxes = torch.cat([middles - distances[..., :2], middles + distances[..., 2:]], dim=2)
        return boxes, outputs[..., BOX], outputs[..., BOX + 1 :]

    def _loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The loss, summed over objects and divided by their number."""
        images, boxes, labels = batch
        said, presence, classes = self._places(images)
        image, row = (labels >= 0).nonzero(as_tuple=True)  # the objects, (N,) each
        boxes, labels = boxes[image, row], labels[image, row]
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE).long()
        place = middles[:, 1] * (images.shape[3] // STRIDE) + middles[:, 0]
        there = torch.zeros_like(presence).index_put((image, place), presence.new_ones(()))
        of_presence = F.binary_cross_entropy_with_logits(presence, there, reduction="sum")
        of_class = F.cross_entropy(classes[image, place], labels, reduction="sum")
        of_box = generalized_box_iou_loss(said[image, place], boxes, reduction="sum")
        return (of_presence + of_class + of_box) / max(len(labels), 1)

    def loss_and_outputs(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = self._loss(batch)
        return loss, (torch.stack([loss.detach().float(), torch.ones_like(loss)])[None],)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        images, boxes, labels = batch
        loss = self._loss(batch)
        self.add_evaluation(torch.stack([loss.float(), torch.ones_like(loss)])[None])
        objects = [
            {"boxes": box[label >= 0], "labels": label[label >= 0]} for box, label in zip(boxes, labels, strict=True)
        ]
        self._average_precision.update(self.detect(images), objects)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._average_precision.reset()

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._average_precision.reset()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._log_average_precision("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._log_average_precision("test")

    def _log_average_precision(self, split: str) -> None:
        self.log(f"{split}/map_50", self._average_precision.compute()["map_50"])  # over all ranks

    def summed(self, *outputs: Tensor) -> Tensor:
        (sums,) = outputs
        return sums.sum(dim=0)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        return {"loss": sums[0] / sums[1]}

    @torch.no_grad()
    def detect(self, images: Tensor, least: float = LEAST) -> list[dict[str, Tensor]]:
        """The objects of each image (B, channels, H, W), the most probable first.

        Args:
            least: minimum probability, 0 to 1.

        Returns:
            For each image `boxes` float (N, 4), `scores` float (N,) (probabilities), and `labels` int64 (N,).
        """
        found = []
        for places in self(images).float():
            scores, labels = places[:, BOX:].max(dim=1)
            likely = scores >= least
            boxes, scores, labels = places[likely, :BOX], scores[likely], labels[likely]
            kept = nms(boxes, scores, SAME)
            found.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]})
        return found

    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        """What the model sees in each image (B, channels, H, W).

        Returns:
            `answer`, the classes of its objects from left to right, separated by spaces; and `boxes`, each with
            `label`, `probability` and `box`: left, top, right and bottom edge in pixels.
        """
        training = self.training
        self.eval()
        answers = []
        for found in self.detect(inputs.to(self.device), SURE):
            columns = (found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist())
            boxes = [
                {"label": self.class_names[label], "probability": score, "box": box}
                for label, score, box in zip(*columns, strict=True)
            ]
            boxes.sort(key=lambda item: item["box"][0])
            answers.append({"answer": " ".join(item["label"] for item in boxes), "boxes": boxes})
        self.train(training)
        return answers

    @torch.no_grad()
    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """boxed_canvases: some images of a dataloader with true and predicted boxes."""
        images, boxes, labels = (part[:PICTURED_CANVASES] for part in next(iter(dataloader)))
        truth = [
            [(self.class_names[label], box) for label, box in zip(of_image, where, strict=True) if label >= 0]
            for of_image, where in zip(labels.tolist(), boxes.tolist(), strict=True)
        ]
        said = [[(item["label"], item["box"]) for item in answer["boxes"]] for answer in self.answers(images)]
        shown = images.mean(dim=1).cpu().numpy()
        return {"boxed_canvases": {"images": shown, "truth": truth, "predicted": said}}
