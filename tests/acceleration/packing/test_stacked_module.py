"""Stacked models compared with the same models trained one by one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_modules import CNN, MLP, GRUSeq2Seq
from lightning_modules.dropout import Dropout
from studies.acceleration.packing.stacked_module import Stack, _OwnDropout, can_stack, sums_suffice, why_not

K = 3
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
Batch = tuple[Tensor, Tensor]


def images(model: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(1000 * model + step)
    return torch.randn(16, 1, 12, 12, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def words(model: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(1000 * model + step)
    ids = torch.randint(3, 29, (6, 7), generator=generator)
    ids[0, 4:] = 0  # a shorter one
    return ids, ids.flip(1).clamp(min=1)


def mlp(k: int, **arguments: Any) -> MLP:
    return MLP(hidden_sizes=[16, 8], learning_rate=1e-3 * (k + 1), input_shape=[1, 12, 12], num_classes=3, **arguments)


def small_cnn(k: int, **arguments: Any) -> CNN:
    image = {"image_shape": [1, 12, 12], "num_classes": 3}
    return CNN(width=2, depth=2, learning_rate=1e-3 * (k + 1), optimizer="sgd", **image, **arguments)


def gru(k: int, **arguments: Any) -> GRUSeq2Seq:
    return GRUSeq2Seq(hidden_size=8, schedule="constant", learning_rate=1e-3 * (k + 1), max_length=7, **arguments)


def one_by_one(models: list[Any], batches: Callable[[int, int], Batch], steps: int) -> list[Any]:
    models = copy.deepcopy(models)
    for k, model in enumerate(models):
        optimizer = model.configure_optimizers()["optimizer"]
        torch.manual_seed(100 + k)
        for step in range(steps):
            loss, _ = model.loss_and_outputs(batches(k, step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return models


def stacked(models: list[Any], batches: Callable[[int, int], Batch], steps: int) -> Stack:
    optimizers = [model.configure_optimizers()["optimizer"] for model in models]
    stack = Stack(models)
    for k, generator in enumerate(stack.generators):
        generator.manual_seed(100 + k)
    for step in range(steps):
        stack.learn([batches(k, step) for k in range(len(models))])
        for optimizer in optimizers:
            optimizer.step()
    return stack


@pytest.mark.parametrize(
    ("make", "batches", "steps"),
    [
        (lambda k: mlp(k, optimizer="adam", weight_decay=0.01 * k), images, 200),
        (lambda k: mlp(k, optimizer="adamw", dropout=0.1 * (k + 1)), images, 200),
        (lambda k: mlp(k, optimizer="momentum", activation="sigmoid"), images, 200),
        (lambda k: mlp(k, optimizer=["sgd", "adam", "rmsprop"][k]), images, 200),
        (lambda k: small_cnn(k, dropout=0.2), images, 20),  # batch norm of noise: small differences grow
        (lambda k: small_cnn(k, architecture="quick"), images, 20),
        (lambda k: gru(k), words, 200),
        (lambda k: gru(k, num_layers=2), words, 50),
        (lambda k: gru(k, cell="gru_cho"), words, 50),
    ],
)
def test_each_models_weights_equal_those_of_a_single_run(
    make: Callable[[int], LightningModule], batches: Callable[[int, int], Batch], steps: int
) -> None:
    torch.manual_seed(0)
    models = [make(k).train() for k in range(K)]
    alone = one_by_one(models, batches, steps)
    before = copy.deepcopy(models)
    stack = stacked(models, batches, steps)
    assert stack.is_intact()
    for model, single, first in zip(models, alone, before, strict=True):
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, single.state_dict()[name], rtol=0, atol=1e-5)
        moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), first.parameters(), strict=True)]
        assert all(moved), "it has learned"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layer", [nn.Dropout, Dropout])
def test_masks_equal_those_of_each_layer_alone(layer: type[nn.Dropout], device: str) -> None:
    layers = [layer(share) for share in (0.1, 0.5, 0.9)]
    generators = [torch.Generator(device).manual_seed(k) for k in range(3)]
    together = _OwnDropout(layers, generators)
    inputs = torch.randn(3, 33, 7, device=device)
    twice = [torch.func.vmap(together, randomness="different")(inputs) for _ in range(2)]
    for k in range(3):
        torch.manual_seed(k)
        for stacked in twice:
            assert torch.equal(stacked[k], layers[k](inputs[k]))


def test_losses_and_outputs_equal_each_models_own() -> None:
    models: list[Any] = [mlp(k).train() for k in range(K)]
    batches = [images(k, 0) for k in range(K)]
    expected = [model.loss_and_outputs(batch) for model, batch in zip(models, batches, strict=True)]
    losses, outputs = Stack(models).learn(batches)
    for (loss, said), stacked_loss, stacked_said, (_, targets) in zip(expected, losses, outputs, batches, strict=True):
        torch.testing.assert_close(stacked_loss, loss.detach())
        torch.testing.assert_close(stacked_said[0], said[0].detach())
        assert torch.equal(stacked_said[1], targets) and not stacked_said[0].requires_grad


def test_moved_weights_are_detected() -> None:
    models: list[Any] = [mlp(k).train() for k in range(K)]
    stack = Stack(models)
    assert stack.is_intact()
    models[1].load_state_dict(models[0].state_dict())
    assert stack.is_intact(), "values may change"
    models[1].network[1].weight.data = models[1].network[1].weight.detach().clone()
    assert not stack.is_intact()
    again = Stack(models[:2])
    assert again.is_intact() and not stack.is_intact()


def test_convolution_kernels_keep_their_layout() -> None:
    models: list[Any] = [small_cnn(k).train() for k in range(K)]
    strides = [parameter.stride() for parameter in models[0].parameters()]
    stack = Stack(models)
    stack.learn([images(k, 0) for k in range(K)])
    for model in models:
        assert [parameter.stride() for parameter in model.parameters()] == strides
        assert all(parameter.grad.stride() == parameter.stride() for parameter in model.parameters())


class OwnStep(MLP):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return 2 * super().training_step(batch, batch_idx)


class OwnLoss(MLP):
    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss, outputs = super().loss_and_outputs(batch)
        return 2 * loss, outputs


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def test_modules_without_a_declaration_are_not_stacked() -> None:
    assert can_stack(MLP()) and can_stack(OwnLoss())
    assert not can_stack(OwnStep()), "its step is not what it inherits"
    assert not can_stack(Plain())
    assert why_not([Plain(), Plain()]) is not None
    with pytest.raises(ValueError, match="OwnStep does not declare how"):
        Stack([OwnStep(), OwnStep()])


def test_models_with_noise_are_not_stacked() -> None:
    assert why_not([mlp(0, noise=0.3), mlp(1, noise=0.3)]) == "Gaussian noise cannot be reproduced when stacked"


def test_models_of_different_shapes_are_not_stacked() -> None:
    for one, other in [
        (mlp(0), MLP(hidden_sizes=[16, 9], input_shape=[1, 12, 12], num_classes=3)),
        (mlp(0), mlp(0, dropout=0.1)),
        (mlp(0), mlp(0, activation="tanh")),
        (mlp(0).train(), mlp(0).eval()),
    ]:
        with pytest.raises(ValueError, match="the models differ in more than optimizer, learning_rate"):
            Stack([one, other])
    with pytest.raises(ValueError, match=r"stacking nn\.LSTM is not supported"):
        Stack([gru(0, cell="lstm"), gru(1, cell="lstm")])
    with pytest.raises(ValueError, match="dropout between a GRU's layers"):
        Stack([gru(0, num_layers=2, dropout=0.1), gru(1, num_layers=2, dropout=0.2)])


def test_callbacks_that_need_each_steps_outputs_get_them() -> None:
    class Looks(MLP):
        def add_training(self, *outputs: Tensor) -> None:
            super().add_training(*outputs)

    assert sums_suffice(mlp(0)) and sums_suffice(gru(0))
    assert not sums_suffice(Looks()) and not sums_suffice(LightningModule())
