"""The course's equations compared with the harness's training."""

import math
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from datamodules.in_memory_loader import InMemoryLoader
from lightning_modules import MLP


class PlainNetwork:
    """The course's training loop: sample by sample, the chain rule by hand, no autograd.

    Layers of sigmoid units; the last one is a softmax under cross-entropy, or linear under squared error. For
    both, the gradient at the last layer's input is proportional to (output - target).
    """

    def __init__(self, weights: list[np.ndarray], biases: list[np.ndarray], classes: bool) -> None:
        self.weights, self.biases, self.classes = weights, biases, classes

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        activations = [x]
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = np.array([sum(w * a for w, a in zip(row, activations[-1], strict=True)) for row in weight]) + bias
            if layer < len(self.weights) - 1:
                z = 1 / (1 + np.exp(-z))
            elif self.classes:
                z = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            activations.append(z)
        return activations

    def backward(self, activations: list[np.ndarray], target: float) -> list[tuple[np.ndarray, np.ndarray]]:
        output = activations[-1]
        delta = output - np.eye(len(output))[int(target)] if self.classes else 2 * (output - target)
        gradients = []
        for layer in reversed(range(len(self.weights))):
            below = activations[layer]
            gradients.append((np.outer(delta, below), delta))
            delta = (self.weights[layer].T @ delta) * below * (1 - below)  # derivative of a sigmoid: a (1 - a)
        return gradients[::-1]

    def train(self, batches: Any, learning_rate: float) -> None:
        for inputs, targets in batches:
            sums = [(np.zeros_like(w), np.zeros_like(b)) for w, b in zip(self.weights, self.biases, strict=True)]
            for x, target in zip(inputs.numpy(), targets.numpy(), strict=True):
                gradients = self.backward(self.forward(x), target)
                sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, gradients, strict=True)]
            for layer, (of_weight, of_bias) in enumerate(sums):
                self.weights[layer] = self.weights[layer] - learning_rate / len(inputs) * of_weight
                self.biases[layer] = self.biases[layer] - learning_rate / len(inputs) * of_bias


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize("hidden_sizes", [[], [5], [5, 4]])
def test_training_is_the_courses_plain_loop(classes: int | None, hidden_sizes: list[int]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(40, 4, dtype=torch.float64)
    targets = torch.randint(3, (40,)) if classes else torch.randn(40, dtype=torch.float64)
    module = MLP(
        hidden_sizes=hidden_sizes,
        activation="sigmoid",
        optimizer="sgd",
        learning_rate=0.3,
        input_shape=[4],
        num_classes=classes,
    ).double()
    linear = [layer for layer in module.network if isinstance(layer, torch.nn.Linear)]
    oracle = PlainNetwork(
        [layer.weight.detach().numpy().copy() for layer in linear],
        [layer.bias.detach().numpy().copy() for layer in linear],
        classes is not None,
    )

    def loader() -> InMemoryLoader:
        return InMemoryLoader((inputs, targets), batch_size=8, shuffle=True, seed=1)

    order = loader()
    for epoch in range(3):
        order.sampler.set_epoch(epoch)
        oracle.train(order, 0.3)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader())

    for layer, weight, bias in zip(linear, oracle.weights, oracle.biases, strict=True):
        np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=0, atol=1e-13)
        np.testing.assert_allclose(layer.bias.detach().numpy(), bias, rtol=0, atol=1e-13)


def converged(module: MLP, inputs: torch.Tensor, targets: torch.Tensor, steps: int = 4000) -> MLP:
    """Trains on all samples at once, with the module's own optimizer and loss, until convergence."""
    module.double()
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(steps):
        before = [parameter.detach().clone() for parameter in module.parameters()]
        optimizer.zero_grad()
        module.task.loss(module(inputs), targets).backward()
        optimizer.step()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-8) for a, b in zip(before, module.parameters(), strict=True))
    return module


def test_one_neuron_with_a_sigmoid_is_logistic_regression() -> None:
    features, targets = load_breast_cancer(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(features, targets)
    module = MLP(
        hidden_sizes=[],
        output="sigmoid",
        optimizer="momentum",
        learning_rate=0.5,
        weight_decay=1 / len(targets),  # scikit-learn adds half the squared weights to the sum of losses
        input_shape=[30],
        num_classes=2,
    )
    converged(module, torch.tensor(features), torch.tensor(targets))
    neuron = module.network[-1]
    np.testing.assert_allclose(neuron.weight.detach().numpy(), theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(neuron.bias.detach().numpy(), theirs.intercept_, atol=1e-4)


def test_a_layer_with_softmax_is_multinomial_logistic_regression() -> None:
    features, targets = load_iris(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(features, targets)
    module = MLP(
        hidden_sizes=[],
        optimizer="momentum",
        learning_rate=0.5,
        weight_decay=1 / len(targets),
        input_shape=[4],
        num_classes=3,
    )
    converged(module, torch.tensor(features), torch.tensor(targets))
    ours = module.task.probabilities(module(torch.tensor(features))).detach().numpy()
    np.testing.assert_allclose(module.network[-1].weight.detach().numpy(), theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours, theirs.predict_proba(features), atol=1e-4)


def test_the_gradient_vanishes_through_sigmoids_and_not_through_relus() -> None:
    def norms(activation: Any) -> list[float]:
        torch.manual_seed(0)
        module = MLP(hidden_sizes=[32] * 6, activation=activation, log_gradients=True, input_shape=[16], num_classes=3)
        module.task.loss(module(torch.randn(64, 16)), torch.randint(3, (64,))).backward()
        return [float(norm) for norm in module.of_interval().values()]

    sigmoid, relu = norms("sigmoid"), norms("relu")
    assert len(sigmoid) == 7
    assert sigmoid[0] < 1e-3 * sigmoid[-1]
    assert math.log(relu[-1] / relu[0]) < 0.5 * math.log(sigmoid[-1] / sigmoid[0])
