"""Whole steps of stacked models in one call, compared with the same models trained one by one."""

import copy
from typing import Any

import pytest
import torch
from test_stacked_module import DEVICES, K, gru, images, mlp, small_cnn, words
from test_stacked_optimizer import assert_same, begun, own_step

from lightning_modules import MLP
from studies.acceleration.packing.stacked_module import Stack
from studies.acceleration.packing.stacked_steps import StackedSteps


def batch(step: int, device: str, size: int = 16) -> tuple[torch.Tensor, ...]:
    batches = [images(k, step) for k in range(K)]
    return tuple(torch.stack(values)[:, :size].to(device) for values in zip(*batches, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_200_steps_equal_each_models_own(device: str, decay: float) -> None:
    torch.manual_seed(0)
    models = [mlp(k, optimizer="adam", weight_decay=decay * k).train() for k in range(K)]
    alone = copy.deepcopy(models)
    optimizers, own = begun(models), begun(alone)
    for model, optimizer in zip(models, optimizers, strict=True):
        model.to(device)
        optimizer.load_state_dict(optimizer.state_dict())
    steps = StackedSteps(Stack(models), optimizers)
    for first in range(1, 201, 50):
        steps.begin()
        for step in range(first, first + 50):
            for optimizer in (*optimizers, *own):
                for group in optimizer.param_groups:
                    group["lr"] *= 0.99
            steps.take(batch(step, device), rates_change=True)
            for k in range(K):
                own_step(alone[k], own[k], k, step)
        losses, sums = steps.end()
        for k in range(K):
            assert sums[k][2] == 50 * 16, "samples of all steps since begin"
            for name, value in alone[k].named_parameters():
                torch.testing.assert_close(models[k].get_parameter(name).grad.cpu(), value.grad, rtol=1e-2, atol=1e-5)
    expected = [model.loss_and_outputs(images(k, 201))[0] for k, model in enumerate(alone)]
    steps.begin()
    steps.take(batch(201, device))
    losses, _ = steps.end()
    torch.testing.assert_close(torch.stack(losses).cpu(), torch.stack(expected).detach(), rtol=1e-4, atol=1e-5)
    for k in range(K):
        own_step(alone[k], own[k], k, 201)
        models[k].cpu()
    assert steps.trouble is None
    if device == "cpu":
        assert_same(models, alone, optimizers, own)
    for model, single in zip(models, alone, strict=True):
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, single.get_parameter(name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_of_another_size_works_too(device: str) -> None:
    models = [mlp(k).train() for k in range(K)]
    optimizers = begun(models)
    for model, optimizer in zip(models, optimizers, strict=True):
        model.to(device)
        optimizer.load_state_dict(optimizer.state_dict())
    steps = StackedSteps(Stack(models), optimizers)
    steps.begin()
    for step in range(8):
        steps.take(batch(step, device))
    steps.take(batch(8, device, size=5))
    steps.take(batch(9, device))
    _, sums = steps.end()
    assert [float(of_model[2]) for of_model in sums] == [9 * 16 + 5] * K
    state: Any = optimizers[0].state[next(models[0].parameters())]
    assert float(state["step"]) == 11


def two_classes(k: int) -> MLP:
    return MLP(hidden_sizes=[4], input_shape=[1, 12, 12], num_classes=2, learning_rate=1e-3 * (k + 1))


def of_two(k: int, step: int) -> Any:
    inputs, targets = images(k, step)
    return inputs, targets % 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("make", "batches"),
    [(mlp, images), (small_cnn, images), (two_classes, of_two), (gru, words)],
    ids=["mlp", "cnn", "two classes", "gru"],
)
def test_sums_equal_those_of_each_models_outputs(make: Any, batches: Any, device: str) -> None:
    """Neither a histogram of scores nor boolean indexing can be mapped."""
    models = [make(k).train() for k in range(K)]
    optimizers = [model.configure_optimizers()["optimizer"] for model in models]
    for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        model.loss_and_outputs(batches(k, 0))[0].backward()
        optimizer.step()
        model.to(device)
        optimizer.load_state_dict(optimizer.state_dict())
    alone, own = copy.deepcopy((models, optimizers))
    steps = StackedSteps(Stack(models), optimizers)
    steps.begin()
    expected = [0.0] * K
    for step in range(1, 20):
        given = [tuple(values.to(device) for values in batches(k, step)) for k in range(K)]
        steps.take(tuple(torch.stack(values) for values in zip(*given, strict=True)))
        for k, (model, optimizer) in enumerate(zip(alone, own, strict=True)):
            loss, outputs = model.loss_and_outputs(given[k])
            expected[k] = expected[k] + model.summed(*(output.detach() for output in outputs))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    _, sums = steps.end()
    for k in range(K):
        torch.testing.assert_close(sums[k], expected[k], rtol=1e-2, atol=2.0)


def regression(k: int, **arguments: Any) -> MLP:
    return MLP(hidden_sizes=[4], input_shape=[1, 12, 12], num_classes=None, learning_rate=1e-3 * (k + 1), **arguments)


def numbers(k: int, step: int) -> Any:
    inputs, targets = images(k, step)
    return inputs, targets.float()


@pytest.mark.parametrize(
    ("make", "batches", "is_replayed"),
    [
        (mlp, images, True),
        (lambda k: mlp(k, dropout=0.1 * (k + 1)), images, True),
        (lambda k: mlp(k, activation="gelu", optimizer="momentum"), images, True),
        (lambda k: mlp(k, activation="tanh", optimizer="rmsprop"), images, True),
        (two_classes, of_two, True),
        (regression, numbers, True),
        (gru, words, False),
    ],
    ids=["mlp", "dropout", "gelu", "tanh", "two classes", "numbers", "gru"],
)
def test_replayed_steps_are_bit_identical(make: Any, batches: Any, is_replayed: bool) -> None:
    found = []
    for replays in (True, False):
        torch.manual_seed(0)
        models = [make(k).train() for k in range(K)]
        optimizers = [model.configure_optimizers()["optimizer"] for model in models]
        for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            model.loss_and_outputs(batches(k, 0))[0].backward()
            optimizer.step()
        stack = Stack(models)
        steps = StackedSteps(stack, optimizers)
        for k, generator in enumerate(stack.generators):
            generator.manual_seed(k)
        if not replays:
            steps._replay = None
        sums = []
        for first in (1, 7, 13):  # three blocks; the second reuses the first one's recording
            if first == 13:  # a new epoch, before which a callback changed something
                for layer in (layer for model in models for layer in model.modules()):
                    if isinstance(layer, torch.nn.Dropout):
                        layer.p = 0.5
                steps.invalidate()
            steps.begin()
            for step in range(first, first + 6):
                given = [batches(k, step) for k in range(K)]
                steps.take(tuple(torch.stack(values) for values in zip(*given, strict=True)))
            sums.append(steps.end())
        if steps._replay is not None:
            assert is_replayed == (steps._replay._program is not None) == (not steps._replay.is_over)
        gradients = [parameter.grad for model in models for parameter in model.parameters()]
        states = [generator.get_state() for generator in stack.generators]
        found.append([*stack.parameters.values(), *gradients, *states, *(v for s in sums for part in s for v in part)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
