"""Multilayer perceptron."""

from collections.abc import Iterable, Sequence
from math import isfinite, prod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lightning_modules.dropout import Dropout
from lightning_modules.optimizers import ARGUMENTS, Optimizer, Schedule
from lightning_modules.supervised import Supervised
from lightning_modules.tasks import Output, task_of

Activation = Literal["sigmoid", "tanh", "relu", "gelu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}


class MLP(Supervised):
    """Fully connected layers from features or pixels to one number, or to one logit per class.

    The task follows from the data: numbers are fitted by squared error, classes by cross-entropy.

    Args:
        hidden_sizes: units of each hidden layer, each >= 1; [] is a generalized linear model: linear regression,
            or (multinomial) logistic regression.
        activation: nonlinearity after each hidden layer.
        output: function applied to the last layer: `softmax` (one per class), `sigmoid` (a single one, for
            two classes) or `identity` (numbers); `auto` is softmax for classes and identity for numbers.
        dropout: share of hidden units set to 0 in training, at least 0 and less than 1
            (Srivastava et al. 2014, JMLR 15).
        batch_norm: normalize each hidden layer before its activation
            (Ioffe & Szegedy 2015, arXiv:1502.03167).
        noise: standard deviation of Gaussian noise that is added in training to the inputs, and to each hidden layer
            before its activation, >= 0. With batch_norm, whose scale then stays 1, it is relative to each unit's own
            standard deviation (the baseline of Rasmus et al. 2015, arXiv:1507.02672).
        log_gradients: also log the norm of each layer's weight gradient, as layer_1/gradient_norm etc.; in deep
            networks of saturating units it vanishes towards the first layer.
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on weight matrices only.
        schedule: course of the learning rate over all training steps; onecycle warms up first.
        input_shape: of one sample: (features,) or (channels, height, width), from the data.
        input_mean: of each feature, subtracted first; from the data, or None.
        input_scale: of each feature, each > 0, divided by then; from the data, or None.
        num_classes: >= 2, or None if the targets are numbers, from the data.
        class_names: one per class, from the data.
        target_mean: of numbers, from the data.
        target_scale: of numbers, > 0, from the data.

    Raises:
        ValueError: an argument is outside its range.
    """

    keeps_no_state = True  # so trials may share a process: all state is in instances
    packable_hyperparameters = (*ARGUMENTS, "dropout")
    pure_loss = True
    flush_denormals = True

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128, 64),
        activation: Activation = "relu",
        output: Output = "auto",
        dropout: float = 0.0,
        batch_norm: bool = False,
        noise: float = 0.0,
        log_gradients: bool = False,
        optimizer: Optimizer = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        input_shape: Sequence[int] = (1, 28, 28),
        input_mean: Sequence[float] | None = None,
        input_scale: Sequence[float] | None = None,
        num_classes: int | None = 10,
        class_names: Sequence[str] | None = None,
        target_mean: float = 0.0,
        target_scale: float = 1.0,
    ) -> None:
        super().__init__(
            task=task_of(num_classes, class_names, target_scale, output),
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
        if not (isfinite(noise) and noise >= 0):
            raise ValueError(f"noise must be a finite number of at least 0, but got {noise=}")
        self.save_hyperparameters(logger=False)
        self.log_gradients = log_gradients

        features = prod(input_shape)
        layers: list[nn.Module] = [nn.Flatten()]
        if input_mean is not None and input_scale is not None:
            layers.append(Standardize(input_mean, input_scale))
        if noise:
            layers.append(GaussianNoise(noise))
        for size in hidden_sizes:
            layers.append(nn.Linear(features, size, bias=not batch_norm))  # batch norm has its own bias
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
                if noise:  # else the scale grows until the noise, which follows, no longer counts
                    layers[-1].weight.requires_grad_(False)
            if noise:
                layers.append(GaussianNoise(noise))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(Dropout(dropout))
            features = size
        layers.append(nn.Linear(features, self.task.outputs))
        if num_classes is None:
            layers.append(Unstandardize(target_mean, target_scale))
        self.network = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, classes; or B, 1 with a sigmoid), or numbers (B, 1), of inputs (B, *input_shape), float."""
        return self.network(inputs)

    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """Pictures of `Supervised` and, with log_gradients, the activations with their derivatives."""
        pictures = super().pictures(dataloader)
        if self.log_gradients:
            pictures["activation_functions"] = activation_curves()
        return pictures

    def of_interval(self) -> dict[str, Any]:
        if not self.log_gradients:
            return {}
        linear = [layer for layer in self.network if isinstance(layer, nn.Linear)]
        norms = [layer.weight.grad.norm() for layer in linear if layer.weight.grad is not None]
        return {f"layer_{number}/gradient_norm": norm for number, norm in enumerate(norms, 1)}


def activation_curves() -> dict[str, Any]:
    """x from -5 to 5, and name -> values and derivatives there, of each activation; NumPy, (201,)."""
    values, derivatives = {}, {}
    x = torch.linspace(-5, 5, 201)
    for name, activation in ACTIVATIONS.items():
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            value = activation()(at)
            (derivative,) = torch.autograd.grad(value.sum(), at)
        values[name], derivatives[name] = value.detach().numpy(), derivative.numpy()
    return {"x": x.numpy(), "values": values, "derivatives": derivatives}


class GaussianNoise(nn.Module):
    """Adds independent Gaussian noise in training.

    Args:
        std: standard deviation, >= 0.
    """

    not_stackable = "Gaussian noise cannot be reproduced when stacked"  # studies/acceleration/packing/

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.add(inputs, torch.randn_like(inputs), alpha=self.std) if self.training else inputs


class Standardize(nn.Module):
    """(x - mean) / scale per feature, stored in the model, so that it can be used with raw inputs anywhere.

    Args:
        mean: of each feature.
        scale: of each feature, each > 0.

    Raises:
        ValueError: a scale is not positive.
    """

    def __init__(self, mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        if not all(value > 0 for value in scale):
            raise ValueError(f"input_scale must be greater than 0 for each feature, but got {scale=}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.scale


class Unstandardize(nn.Module):
    """x * scale + mean: from a layer's range of about -1 to 1 to the targets' own unit."""

    def __init__(self, mean: float, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.scale + self.mean
