from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_modules.optimizers import Optimizer, Schedule, checked, configure, schedule_factor


def module(total_steps: float = 100) -> Any:
    """The parts of a LightningModule used by `configure`: a matrix, a bias and a trainer."""
    layer = nn.Linear(3, 2)
    layer.trainer = SimpleNamespace(estimated_stepping_batches=total_steps)  # type: ignore[assignment]
    return layer


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("sgd", torch.optim.SGD),
        ("momentum", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_every_optimizer_is_built_with_the_given_values_and_makes_a_step(name: Any, built: type) -> None:
    layer = module()
    optimizer = configure(layer, optimizer=name, learning_rate=0.02, weight_decay=0.3)["optimizer"]

    assert type(optimizer) is built
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    assert (optimizer.param_groups[0].get("momentum", 0) > 0) == (name == "momentum")
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)


def test_weight_decay_spares_biases() -> None:
    layer = module()
    optimizer = configure(layer, optimizer="adamw", learning_rate=0.1, weight_decay=0.3)["optimizer"]

    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {id(layer.weight): 0.3, id(layer.bias): 0.0}


def test_frozen_parameters_are_left_out() -> None:
    layer = module()
    layer.bias.requires_grad_(False)
    optimizer = configure(layer, optimizer="adam", learning_rate=0.1)["optimizer"]

    assert [p for group in optimizer.param_groups for p in group["params"]] == [layer.weight]


def test_constant_schedule_needs_no_end() -> None:
    assert set(configure(module(float("inf")), optimizer="sgd", learning_rate=0.1)) == {"optimizer"}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "onecycle"])
def test_other_schedules_need_an_end(schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"max_epochs or trainer\.max_steps"):
        configure(module(float("inf")), optimizer="sgd", learning_rate=0.1, schedule=schedule)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "onecycle"])
def test_schedule_moves_the_learning_rate_at_every_step(schedule: Any) -> None:
    layer = module(total_steps=10)
    built = configure(layer, optimizer="sgd", learning_rate=0.5, schedule=schedule)
    rates = []
    for _ in range(11):
        rates.append(built["optimizer"].param_groups[0]["lr"])
        built["optimizer"].step()
        built["lr_scheduler"]["scheduler"].step()

    assert built["lr_scheduler"]["interval"] == "step"
    assert rates == pytest.approx([0.5 * schedule_factor(schedule, step, 10) for step in range(11)])
    assert rates[-1] == pytest.approx(0)


@settings(deadline=None, max_examples=50)
@given(schedule=st.sampled_from(get_args(Schedule)), total=st.integers(1, 10_000), step=st.integers(0, 20_000))
def test_factor_stays_between_zero_and_the_peak(schedule: Any, total: int, step: int) -> None:
    assert 0 <= schedule_factor(schedule, step, total) <= 1


def test_known_values_of_the_schedules() -> None:
    assert [schedule_factor("constant", step, 4) for step in range(5)] == [1, 1, 1, 1, 1]
    assert [schedule_factor("linear", step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [schedule_factor("cosine", step, 4) for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert [schedule_factor("onecycle", step, 100) for step in (0, 30, 65, 100)] == pytest.approx([0.04, 1, 0.5, 0])


def test_every_name_is_accepted() -> None:
    for optimizer in get_args(Optimizer):
        for schedule in get_args(Schedule):
            assert list(checked(optimizer, 1e-3, 0.5, schedule).values()) == [optimizer, 1e-3, 0.5, schedule]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimizer": "adamax"}, "optimizer must be one of sgd, momentum, adam, adamw, rmsprop.*'adamax'"),
        ({"schedule": "step"}, "schedule must be one of constant, linear, cosine, onecycle.*'step'"),
        ({"learning_rate": 0.0}, r"learning_rate must be .* greater than 0, but got learning_rate=0\.0"),
        ({"learning_rate": -1e-3}, r"but got learning_rate=-0\.001"),
        ({"learning_rate": float("nan")}, "but got learning_rate=nan"),
        ({"learning_rate": float("inf")}, "but got learning_rate=inf"),
        ({"weight_decay": -0.1}, r"weight_decay must be .* at least 0, but got weight_decay=-0\.1"),
    ],
)
def test_values_out_of_range_are_rejected(changed: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "schedule": "constant",
    }
    with pytest.raises(ValueError, match=message):
        checked(**{**values, **changed})


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_without_weight_decay_nothing_decays(optimizer: Optimizer) -> None:
    """AdamW's own default differs."""
    (group,) = configure(module(), optimizer=optimizer, learning_rate=0.1)["optimizer"].param_groups
    assert group["weight_decay"] == 0
    assert len(group["params"]) == 2
