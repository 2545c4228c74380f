"""Convolutional networks."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lightning_modules.architectures import ARCHITECTURES, Residual
from lightning_modules.optimizers import ARGUMENTS, Optimizer, Schedule
from lightning_modules.supervised import Supervised
from lightning_modules.tasks import Classification

Architecture = Literal["small", "quick", "compact", "lenet5", "alexnet", "vgg", "resnet"]


class CNN(Supervised):
    """Convolutions, pooling and fully connected layers from pixels to class logits.

    Args:
        architecture: `small` is `depth` blocks of 3x3 convolution, max-pooling, batch normalization and ReLU,
            then one fully connected layer; `quick` begins with a convolution of stride 2. `lenet5`, `alexnet`, `vgg`
            and `resnet` are the published networks, scaled to small images: see
            `lightning_modules.architectures`.
        width: channels of the first block, >= 1; further blocks have multiples of it. lenet5 has its own.
        depth: number of blocks or stages, >= 1, after each of which the image is half as large. lenet5 and
            alexnet have their own.
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

    keeps_no_state = True  # so trials may share a process: all state is in instances
    packable_hyperparameters = (*ARGUMENTS, "dropout")
    pure_loss = True
    flush_denormals = True

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
            task=Classification(num_classes, class_names),
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

        layers = ARCHITECTURES[architecture](image_shape, width, depth, dropout, num_classes)
        # The memory layout of convolution and pooling kernels: about 1.5 times as fast on CPUs.
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """Pictures of `Supervised`, the first convolution's filters, and feature maps of an image."""
        pictures = super().pictures(dataloader)
        first = next(layer for layer in self.network if isinstance(layer, nn.Conv2d))
        pictures["filters"] = {"kernels": first.weight.detach().mean(dim=1).float().cpu().numpy()}
        image = next(iter(dataloader))[0][:1].to(self.device)
        pictures["feature_maps"] = {"image": image[0].mean(dim=0).cpu().numpy(), "maps": self._feature_maps(image)}
        return pictures

    @torch.no_grad()
    def _feature_maps(self, image: Tensor) -> dict[str, Any]:
        """Layer -> float (channels, h, w): feature maps of an image (1, channels, h, w) after each spatial layer."""
        training, maps = self.training, {}
        self.eval()
        for number, layer in enumerate(self.network):
            image = layer(image)
            if image.dim() == 4 and isinstance(layer, nn.ReLU | nn.Tanh | Residual):
                maps[f"layer {number + 1}"] = image[0].float().cpu().numpy()
        self.train(training)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, num_classes) of images (B, channels, height, width), float."""
        return self.network(images)
