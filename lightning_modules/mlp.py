"""Multilayer perceptron."""

from collections.abc import Sequence
from math import prod
from typing import Literal, get_args

from torch import Tensor, nn

from lightning_modules.classifier import Classifier
from lightning_modules.optimizers import Optimizer, Schedule

Activation = Literal["sigmoid", "tanh", "relu", "gelu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}


class MLP(Classifier):
    """Fully connected layers from pixels to class logits.

    Args:
        hidden_sizes: units of each hidden layer, each >= 1; [] is multinomial logistic regression.
        activation: nonlinearity after each hidden layer.
        dropout: share of hidden units set to 0 in training, at least 0 and less than 1
            (Srivastava et al. 2014, JMLR 15).
        batch_norm: normalize each hidden layer before its activation
            (Ioffe & Szegedy 2015, arXiv:1502.03167).
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on weight matrices only.
        schedule: course of the learning rate over all training steps; onecycle warms up first.
        image_shape: (channels, height, width), from the data.
        num_classes: >= 2, from the data.
        class_names: one per class, from the data.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128, 64),
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
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
        if any(size < 1 for size in hidden_sizes):
            raise ValueError(f"hidden_sizes must each be at least 1, but got {hidden_sizes=}")
        if activation not in ACTIVATIONS:
            allowed = ", ".join(get_args(Activation))
            raise ValueError(f"activation must be one of {allowed}, but got {activation=}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, but got {dropout=}")
        self.save_hyperparameters(logger=False)

        layers: list[nn.Module] = [nn.Flatten()]
        features = prod(image_shape)
        for size in hidden_sizes:
            layers.append(nn.Linear(features, size, bias=not batch_norm))  # batch norm has a bias of its own
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            features = size
        layers.append(nn.Linear(features, num_classes))
        self.network = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, num_classes) of images (B, channels, height, width), float."""
        return self.network(images)
