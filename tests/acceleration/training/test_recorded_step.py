"""Programs of recorded calls: equal on other batches, and unsupported operations are rejected."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from studies.acceleration.training.recorded_step import Computed, Program, Recorder, Unknown

Step = Callable[[Tensor, Tensor, Tensor], list[Tensor]]  # (two batch tensors, a weight) -> reported tensors


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, generator=generator), torch.randint(0, 3, (4,), generator=generator)


def recorded(step: Step, weight: Tensor, of: Any, generators: list[torch.Generator]) -> Program:
    with Recorder() as recorder, torch.no_grad():
        said = step(*of, weight)
    return Program(recorder, of, Computed(said, []), [weight], generators)


def constants(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    two = torch.scalar_tensor(2.0)
    return [torch.where(y != 1, x.sum(1), two), y.to(torch.float32)]


def picked(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    scores = (x @ weight).reshape(4, 3)
    zeros = scores.new_zeros((4, 3))
    return [scores.gather(1, y[:, None]).neg(), zeros.scatter_add(1, y[:, None], scores[:, :1]), scores.sum()]


def views(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    """Views of the batch and of results, also several at once."""
    one, other = x[:, 1:5].unbind(0)[2:]
    stacked = torch.bmm(x.view(2, 2, 6).mT, x.reshape(2, 2, 6))
    return [one * other, stacked.mean(-1), stacked[1].transpose(0, 1) / 3, x[1]]


def in_place(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    room = torch.empty(4, 6)
    room.copy_(x).mul_(2.0).div_(3.0)
    kept = torch.relu(room)
    return [room, kept, torch.relu(kept * x)]


@pytest.mark.parametrize("step", [constants, picked, views, in_place])
def test_a_program_equals_the_step_on_other_batches_and_weights(step: Step) -> None:
    weight = torch.randn(6, 3)
    program = recorded(step, weight, batch(0), [])
    for seed in range(1, 4):
        weight.mul_(0.5)
        other = batch(seed)
        assert program.fits(other)
        said, expected = program.run(other), step(*other, weight)
        assert all(torch.equal(a, b) for a, b in zip(said, expected, strict=True))


def test_it_only_uses_the_given_generators() -> None:
    mine, another = torch.Generator(), torch.Generator()
    room = torch.empty(4, 6)

    def drawing(generator: torch.Generator) -> Step:
        return lambda x, y, weight: [x * room.bernoulli_(0.5, generator=generator)]

    program = recorded(drawing(mine), torch.ones(1), batch(0), [mine])
    said = []
    for draw in (program.run, lambda of: drawing(mine)(*of, torch.ones(1))):
        mine.manual_seed(3)
        said.append([draw(batch(seed))[0].clone() for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*said, strict=True))
    with pytest.raises(Unknown):
        recorded(drawing(another), torch.ones(1), batch(0), [mine])


def count(x: Tensor, y: Tensor, weight: Tensor) -> list[Tensor]:
    weight.add_(1.0)
    return [x * weight[0, 0]]


@pytest.mark.parametrize(
    "step",
    [
        count,
        lambda x, y, weight: [torch.cumsum(x, 1)],
        lambda x, y, weight: [x[y]],
        lambda x, y, weight: [x.mul_(2.0) * 1.0],
        lambda x, y, weight: [torch.scalar_tensor(0.0).add_(x.sum())],
        lambda x, y, weight: [x.view(torch.int32) * 2],
    ],
    ids=[
        "changes a weight",
        "an operation not known",
        "a list of indices",
        "changes the batch",
        "changes a constant",
        "a view of another type",
    ],
)
def test_unreplayable_calls_are_unknown(step: Step) -> None:
    with pytest.raises(Unknown):
        recorded(step, torch.randn(6, 3), batch(0), [])


def test_another_batch_shape_or_moved_weights_do_not_fit() -> None:
    weight = torch.randn(6, 3)
    program = recorded(picked, weight, batch(0), [])
    x, y = batch(1)
    assert program.fits((x, y)) and program.fits([x, y])
    assert not program.fits((x[:3], y[:3])) and not program.fits((x.double(), y)) and not program.fits((x,))
    assert not program.fits((x.mT.contiguous().mT, y)), "its numbers lie in another order"
    weight.data = weight.data.clone()
    assert not program.fits((x, y))
    with pytest.raises(Unknown):
        recorded(lambda a, b, weight: [a + b], weight, (x, x), [])


def test_a_gradient_never_aliases_its_weight() -> None:
    weight = torch.randn(6, 3)
    with Recorder() as recorder, torch.no_grad():
        said = picked(*batch(0), weight)
    with pytest.raises(Unknown):
        Program(recorder, batch(0), Computed(said, [weight]), [weight], [])
