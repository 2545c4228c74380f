"""Canvases with several handwritten digits each, for segmentation or detection."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.image_files import read_canvas
from datamodules.in_memory_loader import InMemoryLoader
from datamodules.mnist import MNIST, normalized

Target = Literal["masks", "boxes"]

INK = 64  # of 255: a pixel at least as bright belongs to its digit
SHARED = 0.1  # maximum share of a box that another one may cover
TRIES = 50  # positions tried for a digit before it is omitted
NO_DIGIT = -1  # label of an empty row of boxes


class MNISTCanvas(pl.LightningDataModule):
    """Square black canvases with scattered MNIST digits, with masks or bounding boxes.

    Training, validation and test canvases use the digits of MNIST's own splits, so no evaluated digit was trained on.
    If no free position is found for a digit, it is omitted. Batches, on
    the trainer's device, are (images, masks), or (images, boxes, labels) with M = max_digits:

    - images float32 (B, 1, canvas_size, canvas_size), normalized as MNIST's are;
    - masks int64 (B, canvas_size, canvas_size): 0 is background, 1 + d a pixel of digit d;
    - boxes float32 (B, M, 4): left, top, right and bottom edge of the digit's ink in pixels;
    - labels int64 (B, M): 0 to 9, or -1 with an all-zero box if a canvas has fewer digits.

    Args:
        target: the task: the digit of each pixel, or the boxes and classes of the digits.
        batch_size: canvases per training batch, from 1 to their number; validation and test use at least 100.
        min_digits: fewest digits on a canvas, >= 0.
        max_digits: most digits on a canvas, >= min_digits and >= 1.
        canvas_size: pixels of a side, >= 32.
        train_canvases: number of training canvases, >= 1.
        eval_canvases: number of validation canvases, and of test canvases, >= 1.
        seed: decides the order of the training canvases, >= 0.
        split_seed: decides which training digits are held out, and the content of all canvases, >= 0.
        data_dir: as for MNIST.

    Raises:
        ValueError: an argument is outside its range.
    """

    harness_links = ("seed", "sizes")  # filled in by studies/trial/instantiate.py
    keeps_no_state = True  # so trials may share a process: all state is in instances

    def __init__(
        self,
        target: Target = "masks",
        batch_size: int = 32,
        min_digits: int = 1,
        max_digits: int = 5,
        canvas_size: int = 64,
        train_canvases: int = 8000,
        eval_canvases: int = 1000,
        seed: int = 0,
        split_seed: int = 0,
        data_dir: str | None = None,
    ) -> None:
        super().__init__()
        if target not in get_args(Target):
            raise ValueError(f"target must be one of {', '.join(get_args(Target))}, but got {target=}")
        for name, value, least in (
            ("min_digits", min_digits, 0),
            ("max_digits", max_digits, max(1, min_digits)),
            ("canvas_size", canvas_size, 32),
            ("train_canvases", train_canvases, 1),
            ("eval_canvases", eval_canvases, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, but got {name}={value}")
        if not 1 <= batch_size <= train_canvases:
            raise ValueError(
                f"batch_size must be between 1 and the {train_canvases} training canvases, but got {batch_size=}"
            )
        self.digits = MNIST(split_seed=split_seed, data_dir=data_dir)  # checks split_seed
        self.target, self.batch_size, self.seed, self.split_seed = target, batch_size, seed, split_seed
        self.min_digits, self.max_digits, self.canvas_size = min_digits, max_digits, canvas_size
        self.train_canvases, self.eval_canvases = train_canvases, eval_canvases
        self.parts: dict[str, tuple[Tensor, ...]] = {}

    @property
    def sizes(self) -> dict[str, Any]:
        """Data-derived arguments of a model."""
        names = self.digits.sizes["class_names"]
        return {"image_shape": [1, self.canvas_size, self.canvas_size], "num_classes": 10, "class_names": names}

    def prepare_data(self) -> None:
        """Fetches MNIST; see `MNIST.prepare_data`."""
        self.digits.prepare_data()

    def setup(self, stage: str) -> None:
        """Creates the canvases for a stage, once."""
        if stage in ("fit", "validate") and "train" not in self.parts:
            self.digits.setup("fit")
            assert self.digits.training_set is not None
            pixels, labels = self.digits.training_set
            for part, number, chosen in (
                ("train", self.train_canvases, self.digits.train),
                ("validation", self.eval_canvases, self.digits.validation),
            ):
                self.parts[part] = self._scatter(part, number, pixels[chosen], labels[chosen])
        if stage in ("test", "predict") and "test" not in self.parts:
            self.digits.setup("test")
            assert self.digits.test_set is not None
            self.parts["test"] = self._scatter("test", self.eval_canvases, *self.digits.test_set)

    def train_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(
            self._resident("train"),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            drop_last=True,
            transform=_batch,
            samplewise=True,
        )

    def val_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader("test")

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch from image files, for a trained model.

        Returns:
            float (N, 1, canvas_size, canvas_size), the files' names, and notes on the preprocessing of each.

        Raises:
            ValueError: in one line: a file is not an image.
        """
        images, notes = zip(*(read_canvas(item, self.canvas_size) for item in items), strict=True)
        return normalized(torch.stack(images), torch.zeros(0), torch.Generator())[0], list(items), list(notes)

    def _scatter(self, part: str, number: int, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Raw canvases uint8 (N, S, S), and their masks uint8 (N, S, S) or their boxes and labels."""
        random = np.random.default_rng([self.split_seed, *part.encode()])
        digits, of_digits = pixels.numpy(), labels.numpy()
        canvases = np.zeros((number, self.canvas_size, self.canvas_size), np.uint8)
        masks, found = np.zeros_like(canvases), np.zeros((number, self.max_digits), np.int64) + NO_DIGIT
        boxes = np.zeros((number, self.max_digits, 4), np.float32)
        counts = random.integers(self.min_digits, self.max_digits + 1, size=number)
        for canvas, mask, label, box, count in zip(canvases, masks, found, boxes, counts, strict=True):
            placed = 0
            for index in random.integers(len(digits), size=count):
                digit = _cut(digits[index])
                place = _free_place(box[:placed], digit.shape, self.canvas_size, random)
                if place is None:
                    continue
                top, left = place
                height, width = digit.shape
                inside = np.s_[top : top + height, left : left + width]
                mask[inside][digit >= INK] = 1 + of_digits[index]
                canvas[inside] = np.maximum(canvas[inside], digit)
                box[placed], label[placed] = (left, top, left + width, top + height), of_digits[index]
                placed += 1
        images = torch.from_numpy(canvases)
        if self.target == "masks":
            return images, torch.from_numpy(masks)
        return images, torch.from_numpy(boxes), torch.from_numpy(found)

    def _resident(self, part: str) -> tuple[Tensor, ...]:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return tuple(tensor.to(device) for tensor in self.parts[part])

    def _evaluation_loader(self, part: str) -> InMemoryLoader:
        size = max(self.batch_size, 100)
        return InMemoryLoader(self._resident(part), size, transform=_batch, samplewise=True)


def _batch(pixels: Tensor, *targets_and_generator: Any) -> tuple[Tensor, ...]:
    *targets, generator = targets_and_generator
    images, _ = normalized(pixels, targets[0], generator)
    return images, *(target.long() if target.dtype == torch.uint8 else target for target in targets)


def _cut(digit: np.ndarray) -> np.ndarray:
    """uint8 (28, 28) -> the bounding box of its ink."""
    rows, columns = (np.flatnonzero((digit >= INK).any(axis=axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_place(
    boxes: np.ndarray, shape: tuple[int, ...], canvas_size: int, random: np.random.Generator
) -> tuple[int, int] | None:
    """Top and left of a box of this size that overlaps little with the others; or None."""
    height, width = shape
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for _ in range(TRIES):
        top, left = (int(random.integers(canvas_size - side + 1)) for side in (height, width))
        across = np.minimum(boxes[:, 2], left + width) - np.maximum(boxes[:, 0], left)
        down = np.minimum(boxes[:, 3], top + height) - np.maximum(boxes[:, 1], top)
        covered = np.clip(across, 0, None) * np.clip(down, 0, None)
        if (covered <= SHARED * np.minimum(areas, height * width)).all():
            return top, left
    return None
