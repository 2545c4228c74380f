"""MNIST: 28x28 grey images of handwritten digits (LeCun et al. 1998, Proc. IEEE 86(11))."""

import functools
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.image_files import read_figure
from datamodules.in_memory_loader import InMemoryLoader, on_device, seeded_generator
from datamodules.mnist_files import DataUnavailable, fetch, read

TRAINING_IMAGES = 60_000
MEAN, STD = 0.1307, 0.3081  # of the training pixels, scaled to 0..1
PLACES = 5  # of a side, at which elastic distortions draw a displacement; 5.6 pixels from one to the next
BLACK = torch.tensor(-MEAN / STD)


class MNIST(pl.LightningDataModule):
    """Handwritten digits in their official split, with a validation set carved from the training images.

    Batches are (images, labels) on the trainer's device: float32 (B, 1, 28, 28), normalized to mean 0 and
    standard deviation 1 over the training pixels, and int64 (B,) of 0 to 9.

    Args:
        batch_size: images per training batch, from 1 to their number (60000 - validation_size); validation and
            test use at least 500, on a GPU 2500, which only affects speed.
        seed: decides the order of the training images and their augmentation, >= 0.
        split_seed: decides which training images are held out for validation, >= 0.
        validation_size: number of held-out images, 1 to 59999.
        augment: randomly shift (up to 2 pixels), rotate (up to 10 degrees) and scale (up to 10 percent) each training
            image.
        elastic: with augment, standard deviation in pixels of a smooth random displacement of the pixels, >= 0
            (elastic distortions; Simard et al. 2003, Best practices for convolutional neural networks, ICDAR).
        data_dir: folder for MNIST/raw/; None is $HARNESS_DATA or else ~/.cache/harness.

    Raises:
        ValueError: an argument is outside its range.
    """

    harness_links = ("seed", "sizes")  # filled in by studies/trial/instantiate.py
    keeps_no_state = True  # so trials may share a process: all state is in instances

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        split_seed: int = 0,
        validation_size: int = 5000,
        augment: bool = False,
        elastic: float = 0.0,
        data_dir: str | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= validation_size < TRAINING_IMAGES:
            raise ValueError(f"validation_size must be between 1 and {TRAINING_IMAGES - 1}, but got {validation_size=}")
        training_images = TRAINING_IMAGES - validation_size
        if not 1 <= batch_size <= training_images:
            raise ValueError(
                f"batch_size must be between 1 and the {training_images} training images, but got {batch_size=}"
            )
        for name, value in (("seed", seed), ("split_seed", split_seed)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but got {name}={value}")
        if not (math.isfinite(elastic) and elastic >= 0):
            raise ValueError(f"elastic must be a finite number of at least 0, but got {elastic=}")
        if elastic and not augment:
            raise ValueError(f"elastic is part of the augmentation: set augment to true, but got {augment=} {elastic=}")
        self.save_hyperparameters(logger=False)
        self.batch_size, self.seed, self.split_seed = batch_size, seed, split_seed
        self.validation_size, self.augment, self.elastic = validation_size, augment, elastic
        self.root = Path(data_dir or os.environ.get("HARNESS_DATA") or Path.home() / ".cache" / "harness")
        self.root = self.root.expanduser()
        # Set by setup: raw pixels uint8 (N, 28, 28) and labels int64 (N,) of the two official sets, and the int64
        # indices of training and validation images.
        self.training_set: tuple[Tensor, Tensor] | None = None
        self.test_set: tuple[Tensor, Tensor] | None = None
        self.train: Tensor | None = None
        self.validation: Tensor | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """Data-derived arguments of a model."""
        return {
            "image_shape": [1, 28, 28],
            "input_shape": [1, 28, 28],
            "num_classes": 10,
            "class_names": [str(digit) for digit in range(10)],
        }

    def prepare_data(self) -> None:
        """Downloads the four files if they are missing or corrupt.

        Raises:
            DataUnavailable: they cannot be fetched.
        """
        fetch(self.root)

    def setup(self, stage: str) -> None:
        """Loads the data for a stage ("fit", "validate", "test" or "predict") into memory, once."""
        if stage in ("fit", "validate") and self.training_set is None:
            self.training_set = self._read("train")
            assert len(self.training_set[0]) == TRAINING_IMAGES
            order = torch.randperm(TRAINING_IMAGES, generator=seeded_generator(self.split_seed))
            self.validation, self.train = order[: self.validation_size], order[self.validation_size :]
        if stage in ("test", "predict") and self.test_set is None:
            self.test_set = self._read("t10k")

    def train_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(
            self._resident(self.training_set),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            drop_last=True,
            transform=functools.partial(augmented, elastic=self.elastic) if self.augment else normalized,
            samplewise=not self.augment,
            subset=self.train,
        )

    def val_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader(self.training_set, self.validation)

    def test_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader(self.test_set)

    def predict_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader(self.test_set)

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch from image files, for a trained model.

        Returns:
            float (N, 1, 28, 28), the files' names, and notes on the preprocessing of each.

        Raises:
            ValueError: in one line: a file is not an image.
        """
        images, notes = zip(*(read_figure(item) for item in items), strict=True)
        batch, _ = normalized(torch.stack(images), torch.zeros(len(images)), torch.Generator())
        return batch, list(items), list(notes)

    def _read(self, name: str) -> tuple[Tensor, Tensor]:
        raw = self.root / "MNIST" / "raw"
        try:
            return _of_file(raw / f"{name}-images-idx3-ubyte"), _of_file(raw / f"{name}-labels-idx1-ubyte")
        except (OSError, IndexError, ValueError, struct.error) as error:
            raise DataUnavailable(f"MNIST in {self.root} is missing or incomplete: call prepare_data first") from error

    def _resident(self, tensors: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        assert tensors is not None, "call setup first"
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return on_device(tensors, device)

    def _evaluation_loader(self, tensors: tuple[Tensor, Tensor] | None, subset: Tensor | None = None) -> InMemoryLoader:
        # Without a backward pass larger batches fit, which are faster, especially on a GPU.
        resident = self._resident(tensors)
        size = max(self.batch_size, 2500 if resident[0].is_cuda else 500)
        return InMemoryLoader(resident, size, transform=normalized, samplewise=True, subset=subset)


def _of_file(path: Path) -> Tensor:
    status = path.stat()
    return _read(path, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=8)
def _read(path: Path, *identity: int) -> Tensor:
    """One tensor per file and process, so that on a GPU all users share one copy."""
    values = read(path)
    return values if values.dim() > 1 else values.long()


def normalized(pixels: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 pixels (B, 28, 28) -> float32 images (B, 1, 28, 28); labels unchanged."""
    images = pixels.unsqueeze(1).float()
    return torch.add(BLACK, images, alpha=1 / (255 * STD), out=images), labels  # one pass through memory instead of two


def augmented(
    pixels: Tensor, labels: Tensor, generator: torch.Generator, elastic: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Like `normalized`, with every image randomly shifted, rotated and scaled a little, and distorted if asked for."""
    batch, height, width = pixels.shape
    turn, zoom, right, down = 2 * torch.rand(4, batch, generator=generator, device=pixels.device) - 1
    angle, scale = turn * torch.pi / 18, 1 + 0.1 * zoom
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    # An affine map (B, 2, 3) from output to input positions, which run from -1 to 1, hence the 2 * 2 pixels.
    rows = torch.stack([cos, -sin, right * 4 / width, sin, cos, down * 4 / height], dim=1).view(batch, 2, 3)
    images = pixels.unsqueeze(1).float()
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    if elastic:
        grid = grid + displacements(batch, height, width, elastic, generator)
    images = F.grid_sample(images, grid, align_corners=False)  # outside is 0: black, like the border
    return images.div_(255 * STD).sub_(MEAN / STD), labels


def displacements(batch: int, height: int, width: int, std: float, generator: torch.Generator) -> Tensor:
    """Smooth random fields (B, H, W, 2) of x and y displacements in `grid_sample`'s unit, half an image.

    Gaussian numbers at a coarse grid of places, interpolated by cubic B-splines. Simard et al. smooth a number for each
    pixel with a Gaussian of 4 pixels, which is the same to the eye and takes longer.

    Args:
        std: in pixels, of the displacement.
    """
    device = generator.device
    coarse = torch.randn(batch, 2, PLACES + 3, PLACES + 3, generator=generator, device=device)
    # Separable, hence two small matrix products: (H, places) and (W, places).
    down, across = (_spline(side).to(device) for side in (height, width))
    fields = down @ coarse @ across.T  # (B, 2, H, W)
    unit = torch.tensor([2 / width, 2 / height], device=device) * std
    return fields.permute(0, 2, 3, 1) * unit


@functools.cache
def _spline(side: int) -> Tensor:
    """Weights (side, PLACES + 3) of a cubic B-spline, scaled to keep the variance of independent numbers on average."""
    position = (torch.arange(side, dtype=torch.float64) + 0.5) * PLACES / side
    distance = (position[:, None] - (torch.arange(PLACES + 3, dtype=torch.float64) - 1)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = torch.where(distance < 1, near, (2 - distance).clamp(min=0) ** 3 / 6)
    return (weights / weights.square().sum(dim=1).mean().sqrt()).float()
