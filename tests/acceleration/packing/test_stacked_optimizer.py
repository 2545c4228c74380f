"""One optimizer for stacked models compared with each model's own."""

import copy
from typing import Any

import pytest
import torch
from test_stacked_module import K, images, mlp, small_cnn
from torch.optim import Optimizer

from studies.acceleration.packing.stacked_module import Stack
from studies.acceleration.packing.stacked_optimizer import OptionsChanged, StackedOptimizer


def begun(models: list[Any]) -> list[Optimizer]:
    """The models' optimizers, each after one step."""
    optimizers = [model.configure_optimizers()["optimizer"] for model in models]
    for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        own_step(model, optimizer, k, 0)
    return optimizers


def own_step(model: Any, optimizer: Optimizer, k: int, step: int) -> None:
    loss, _ = model.loss_and_outputs(images(k, step))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def schedule(optimizer: Optimizer, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * (1 - step / 400)


def go(models: list[Any], optimizers: list[Optimizer], steps: range) -> StackedOptimizer:
    stack = Stack(models)
    joint = StackedOptimizer(stack, optimizers)
    joint.begin()
    for step in steps:
        for optimizer in optimizers:
            schedule(optimizer, step)
        joint.read_rates()
        stack.learn([images(k, step) for k in range(len(models))])
        joint.step()
    joint.end(len(steps))
    assert stack.is_intact() and joint.is_intact(stack, optimizers)
    return joint


def assert_same(models: list[Any], alone: list[Any], optimizers: list[Optimizer], own: list[Optimizer]) -> None:
    for model, single, optimizer, its in zip(models, alone, optimizers, own, strict=True):
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, single.get_parameter(name), rtol=0, atol=1e-5)
            state, expected = optimizer.state.get(value, {}), its.state.get(single.get_parameter(name), {})
            assert state.keys() == expected.keys()
            for key, moment in expected.items():
                torch.testing.assert_close(state[key], moment, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "weight_decay": 0.02},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "sgd", "weight_decay": 0.01},
        {"optimizer": "momentum"},
        {"optimizer": "rmsprop"},
    ],
    ids=str,
)
def test_200_steps_equal_each_models_own(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decay = arguments.pop("weight_decay", 0.0)
    models = [mlp(k, **arguments, weight_decay=decay * k).train() for k in range(K)]  # the first one has none
    alone = copy.deepcopy(models)
    optimizers, own = begun(models), begun(alone)
    for step in range(1, 200):
        for k in range(K):
            schedule(own[k], step)
            own_step(alone[k], own[k], k, step)
    go(models, optimizers, range(1, 200))
    assert_same(models, alone, optimizers, own)


def test_single_steps_in_between_see_the_same_moments() -> None:
    models = [mlp(k, optimizer="adam").train() for k in range(K)]
    alone = copy.deepcopy(models)
    optimizers, own = begun(models), begun(alone)
    joint = go(models, optimizers, range(1, 20))
    for k in range(K):
        own_step(models[k], optimizers[k], k, 20)
    joint.begin()
    for step in range(21, 40):
        joint.stack.learn([images(k, step) for k in range(K)])
        joint.step()
    joint.end(19)
    for step in range(1, 40):
        for k in range(K):
            if step < 20:
                schedule(own[k], step)
            own_step(alone[k], own[k], k, step)
    assert_same(models, alone, optimizers, own)


def test_kernels_of_any_layout_are_stepped_together() -> None:
    models = [small_cnn(k).train() for k in range(K)]
    for model in models:
        model.optimization["optimizer"] = "adam"
        model.to(memory_format=torch.channels_last)
    alone = copy.deepcopy(models)
    optimizers, own = begun(models), begun(alone)
    go(models, optimizers, range(1, 4))
    for step in range(1, 4):
        for k in range(K):
            schedule(own[k], step)
            own_step(alone[k], own[k], k, step)
    for model, single in zip(models, alone, strict=True):
        for value, expected in zip(model.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-4)


def test_different_step_counts_are_detected() -> None:
    models = [mlp(k).train() for k in range(K)]
    optimizers = begun(models)
    own_step(models[1], optimizers[1], 1, 1)
    with pytest.raises(ValueError, match="taken different numbers of steps"):
        StackedOptimizer(Stack(models), optimizers)


def test_moved_moments_are_detected() -> None:
    models = [mlp(k).train() for k in range(K)]
    optimizers, stack = begun(models), Stack(models)
    joint = StackedOptimizer(stack, optimizers)
    assert joint.is_intact(stack, optimizers)
    assert not joint.is_intact(stack, optimizers[:2])
    assert not joint.is_intact(Stack(models), optimizers)
    optimizers[2].load_state_dict(optimizers[0].state_dict())
    assert not joint.is_intact(stack, optimizers)


def test_unstackable_optimizers_are_rejected() -> None:
    models = [mlp(k, optimizer=["adam", "sgd", "adam"][k]).train() for k in range(K)]
    optimizers, stack = begun(models), Stack(models)
    with pytest.raises(ValueError, match="not of one supported class"):
        StackedOptimizer(stack, optimizers)

    models = [mlp(k).train() for k in range(K)]
    fresh, stack = [model.configure_optimizers()["optimizer"] for model in models], Stack(models)
    with pytest.raises(ValueError, match="has no state yet"):
        StackedOptimizer(stack, fresh)

    optimizers = begun(models)
    optimizers[1].param_groups[0]["betas"] = (0.5, 0.9)
    with pytest.raises(ValueError, match="differ in more than learning rate"):
        StackedOptimizer(Stack(models), optimizers)

    optimizers = begun(models)
    optimizers[0].register_step_post_hook(lambda *arguments: None)
    with pytest.raises(ValueError, match="step hooks"):
        StackedOptimizer(Stack(models), optimizers)


def test_schedules_of_other_options_are_detected() -> None:
    models = [mlp(k).train() for k in range(K)]
    optimizers = begun(models)
    joint = StackedOptimizer(Stack(models), optimizers)
    joint.begin()
    for optimizer in optimizers:
        optimizer.param_groups[0]["betas"] = (0.8, 0.999)  # as OneCycleLR does
    with pytest.raises(OptionsChanged):
        joint.read_rates()
