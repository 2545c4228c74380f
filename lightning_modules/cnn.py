"""Convolutional networks."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_modules.classifier import Classifier
from lightning_modules.optimizers import Optimizer, Schedule

Architecture = Literal["small", "quick", "lenet5"]


class CNN(Classifier):
    """Convolutions, pooling and fully connected layers from pixels to class logits.

    Args:
        architecture: `small` is `depth` blocks of 3x3 convolution, max-pooling, batch normalization and ReLU,
            then one fully connected layer. `quick` is the same but for its first block, a 5x5 convolution that
            takes every other pixel instead of pooling: half the work. `lenet5` is LeNet-5 (LeCun et al. 1998,
            Proc. IEEE 86(11), fig. 2) with full connections between its feature maps and softmax in place of
            its RBF units; it has its own width and depth.
        width: not of `lenet5`: channels of the first block, >= 1; every further block doubles them.
        depth: not of `lenet5`: number of blocks, >= 1; each halves height and width.
        dropout: share of the features set to 0 before the last layer in training, at least 0 and less than 1.
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on weight matrices and kernels only.
        schedule: course of the learning rate over all training steps; onecycle warms up first.
        image_shape: (channels, height, width), from the data.
        num_classes: >= 2, from the data.
        class_names: one per class, from the data.

    Raises:
        ValueError: an argument is outside its range, or the images are too small for the depth.
    """

    def __init__(
        self,
        architecture: Architecture = "small",
        width: int = 16,
        depth: int = 3,
        dropout: float = 0.0,
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        image_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            class_names=class_names,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule=schedule,
        )
        if architecture not in get_args(Architecture):
            allowed = ", ".join(get_args(Architecture))
            raise ValueError(f"architecture must be one of {allowed}, but got {architecture=}")
        if width < 1:
            raise ValueError(f"width must be at least 1, but got {width=}")
        if depth < 1:
            raise ValueError(f"depth must be at least 1, but got {depth=}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, but got {dropout=}")
        self.save_hyperparameters(logger=False)

        if architecture == "lenet5":
            layers = _lenet5(image_shape, dropout, num_classes)
        else:
            layers = _small(image_shape, width, depth, dropout, num_classes, architecture == "quick")
        # The layout that convolution and pooling kernels work in: about 1.5 times as fast on CPUs.
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, num_classes) of images (B, channels, height, width), float."""
        return self.network(images)


def _small(
    image_shape: Sequence[int], width: int, depth: int, dropout: float, num_classes: int, quick: bool
) -> list[nn.Module]:
    channels, height, image_width = image_shape
    deepest = min(height, image_width).bit_length() - 1
    if depth > deepest:
        raise ValueError(
            f"depth must be at most {deepest} for images of {height}x{image_width} pixels, "
            f"which each block halves, but got {depth=}"
        )
    layers: list[nn.Module] = []
    for block in range(depth):
        if quick and block == 0:
            layers.append(nn.Conv2d(channels, width, kernel_size=5, stride=2, padding=2, bias=False))
            height, image_width = (height + 1) // 2, (image_width + 1) // 2
        else:
            layers.append(nn.Conv2d(channels, width << block, kernel_size=3, padding=1, bias=False))
            layers.append(nn.MaxPool2d(2))  # before the normalization, which then has a quarter of the pixels to handle
            height, image_width = height // 2, image_width // 2
        channels = width << block
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    features = channels * height * image_width
    return [*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, num_classes)]


def _lenet5(image_shape: Sequence[int], dropout: float, num_classes: int) -> list[nn.Module]:
    channels, height, width = image_shape
    if min(height, width) < 12:
        raise ValueError(f"architecture=lenet5 needs images of at least 12x12 pixels, but got {height}x{width}")
    # The paper pads 28x28 digits to 32x32; padding the first convolution does the same for any size.
    rows, columns = ((side // 2 - 4) // 2 for side in (height, width))
    return [
        nn.Conv2d(channels, 6, kernel_size=5, padding=2),  # C1
        nn.Tanh(),
        nn.AvgPool2d(2),  # S2
        nn.Conv2d(6, 16, kernel_size=5),  # C3
        nn.Tanh(),
        nn.AvgPool2d(2),  # S4
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),  # C5, a 5x5 convolution over all that is left of a digit
        nn.Tanh(),
        nn.Linear(120, 84),  # F6
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.Linear(84, num_classes),
    ]
