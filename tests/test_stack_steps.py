"""Whole steps of stacked models, in one call, against the same models trained one by one."""

import copy
from typing import Any

import pytest
import torch
from test_stack import K, images, mlp
from test_stack_optimizer import assert_same, begun, own_step

from studies.stack import Stack
from studies.stack_steps import StackedSteps

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def batch(step: int, device: str, size: int = 16) -> tuple[torch.Tensor, ...]:
    batches = [images(k, step) for k in range(K)]
    return tuple(torch.stack(values)[:, :size].to(device) for values in zip(*batches, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_200_steps_are_each_models_own(device: str, decay: float) -> None:
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
def test_a_batch_of_another_size_is_taken_too(device: str) -> None:
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
