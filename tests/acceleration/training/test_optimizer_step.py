"""Steps without PyTorch's Python overhead, compared with PyTorch's own: bit-identical."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from studies.acceleration.training import optimizer_step as fast_step
from studies.acceleration.training.optimizer_step import FusedAdam, backward, stepper

Make = Callable[[nn.Module], Optimizer]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def loss_of(network: nn.Module, step: int) -> Tensor:
    inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
    return network(inputs).square().mean()


def two_groups(network: nn.Module) -> list[dict[str, Any]]:
    matrices = {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.1}
    return [matrices, {"params": [p for p in network.parameters() if p.ndim <= 1], "lr": 0.02}]


def both(make: Make, before: Callable[[nn.Module, Optimizer, int], None] = lambda *_: None) -> tuple[Any, Any]:
    """Weights and states after 30 steps, by PyTorch's `step` and by ours."""
    found = []
    for ours in (False, True):
        network = model()
        optimizer = make(network)
        step = stepper(optimizer) if ours else optimizer.step
        for index in range(30):
            optimizer.zero_grad()
            (backward if ours else Tensor.backward)(loss_of(network, index))
            before(network, optimizer, index)
            step()
        found.append((network.state_dict(), optimizer.state_dict()))
    return found[0], found[1]


def assert_same_bits(pair: tuple[Any, Any]) -> None:
    (weights, states), (others, other_states) = pair
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert states["param_groups"] == other_states["param_groups"]
    for index, state in states["state"].items():
        assert all(torch.equal(value, other_states["state"][index][name]) for name, value in state.items())


def schedule(network: nn.Module, optimizer: Optimizer, index: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.01 / (1 + index)
        group["betas"] = (0.9, 0.99 if index > 10 else 0.999)


def reload(network: nn.Module, optimizer: Optimizer, index: int) -> None:
    if index == 12:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def freeze_one(network: nn.Module, optimizer: Optimizer, index: int) -> None:
    if index % 3 == 0:
        network[0].bias.grad = None  # type: ignore[union-attr]


def add_a_group(network: nn.Module, optimizer: Optimizer, index: int) -> None:
    if index == 8:
        last = optimizer.param_groups[0]["params"].pop()
        optimizer.add_param_group({"params": [last], "lr": 1e-3})


@pytest.mark.parametrize(
    ("make", "before"),
    [
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True), lambda *_: None),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True, weight_decay=0.1), schedule),
        (lambda m: AdamW(two_groups(m), lr=0.01, fused=True), schedule),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True), reload),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True), freeze_one),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True), add_a_group),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True, amsgrad=True), lambda *_: None),
        (lambda m: Adam(m.parameters(), lr=0.01, fused=True, maximize=True), lambda *_: None),
        (lambda m: Adam(m.parameters(), lr=0.01), lambda *_: None),
        (lambda m: Adam(m.parameters(), lr=torch.tensor(0.01), fused=True), lambda *_: None),
        (lambda m: SGD(m.parameters(), lr=0.01, momentum=0.9, fused=True), lambda *_: None),
    ],
)
def test_thirty_steps_are_bit_identical(make: Make, before: Any) -> None:
    assert_same_bits(both(make, before))


def test_it_takes_over_after_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = model()
    optimizer = Adam(network.parameters(), lr=0.01, fused=True)
    step, taken = stepper(optimizer), []
    take = FusedAdam._take
    monkeypatch.setattr(FusedAdam, "_take", lambda self: taken.append(take(self)) or taken[-1])
    for index in range(5):
        optimizer.zero_grad()
        loss_of(network, index).backward()
        step()
    assert taken == [False, True, True, True, True]


def test_optimizer_hooks_are_called() -> None:
    network = model()
    optimizer = Adam(network.parameters(), lr=0.01, fused=True)
    step, heard = FusedAdam(optimizer).step, []
    optimizer.register_step_post_hook(lambda *_: heard.append(1))
    for index in range(4):
        loss_of(network, index).backward()
        step()
    assert len(heard) == 4


@pytest.mark.parametrize("engine", [True, False])
def test_gradients_equal_those_of_backward(engine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not engine:  # a PyTorch version without it
        monkeypatch.setattr(fast_step, "_ENGINE", None)
    expected, network = model(), model()
    loss_of(expected, 0).backward()
    loss_of(expected, 1).backward()
    backward(loss_of(network, 0))
    backward(loss_of(network, 1))  # gradients accumulate
    for ours, theirs in zip(network.parameters(), expected.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and torch.equal(ours.grad, theirs.grad)


def test_a_parameter_may_be_the_loss_itself() -> None:
    first, second = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
    backward(first * 1)
    backward(second * 1)
    assert first.grad is not None and second.grad is not None
    first.grad.mul_(5)
    assert second.grad.item() == 1


@pytest.mark.parametrize("loss", [torch.ones(3, requires_grad=True) * 2, torch.tensor(1.0)])
def test_a_loss_without_gradient_raises_the_usual_error(loss: Tensor) -> None:
    with pytest.raises(RuntimeError) as said:
        loss.backward()
    with pytest.raises(RuntimeError, match=str(said.value)[:40]):
        backward(loss)
