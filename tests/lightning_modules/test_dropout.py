"""Dropout: rates, scale, independence, and its fallbacks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_modules.dropout import LEVELS, Dropout

N = 400_000


@given(p=st.floats(0.0, 1.0), seed=st.integers(0, 2**31))
def test_values_are_zero_or_the_scale_that_keeps_the_mean(p: float, seed: int) -> None:
    torch.manual_seed(seed)
    mask = Dropout(p).mask((37, 5))
    kept = 1 - round(p * LEVELS) / LEVELS
    assert mask.shape == (37, 5)
    allowed = torch.tensor([0.0, 1 / kept if kept else 0.0])
    assert torch.isclose(mask[..., None], allowed).any(dim=-1).all()
    if kept == 1:
        assert (mask == 1).all()


@pytest.mark.parametrize("p", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_the_share_of_zeros_is_p(p: float) -> None:
    torch.manual_seed(0)
    share = (Dropout(p).mask((N,)) == 0).double().mean().item()
    assert abs(share - p) < 4 * (p * (1 - p) / N) ** 0.5  # four standard errors


def test_units_are_dropped_independently_of_their_neighbours() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.3).mask((N,)) > 0).double() - 0.7
    for distance in (1, 2, 3, 4, 8):
        correlation = (kept[:-distance] * kept[distance:]).mean().item() / 0.21
        assert abs(correlation) < 4 / N**0.5


def test_inputs_and_gradients_go_through_the_same_mask() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 128, requires_grad=True)
    outputs = Dropout(0.4)(inputs)
    outputs.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(outputs, inputs * inputs.grad)
    assert 0.3 < (inputs.grad == 0).double().mean() < 0.5


def test_one_seed_gives_one_mask_whatever_the_number_of_threads() -> None:
    masks = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.manual_seed(7)
        masks.append(Dropout(0.2).mask((512, 512)))
        torch.set_num_threads(before)
    assert torch.equal(*masks)


def test_a_generator_of_its_own_draws_what_the_global_one_would() -> None:
    torch.manual_seed(3)
    expected = Dropout(0.2).mask((40, 7))
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.2).mask((40, 7), generator=torch.Generator().manual_seed(3)), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_preserved(dtype: torch.dtype) -> None:
    outputs = Dropout(0.5)(torch.ones(10, 10, dtype=dtype))
    assert outputs.dtype == dtype
    assert set(outputs.unique().tolist()) == {0.0, 2.0}


def test_nothing_is_dropped_in_evaluation_and_everything_at_one() -> None:
    inputs = torch.randn(5, 5)
    assert torch.equal(Dropout(0.5).eval()(inputs), inputs)
    assert torch.equal(Dropout(0.0)(inputs), inputs)
    assert torch.equal(Dropout(1.0)(inputs), torch.zeros(5, 5))
    assert Dropout(0.5)(torch.empty(0, 3)).shape == (0, 3)


def test_inference_mode_masks_do_not_break_later_training() -> None:
    layer = Dropout(0.5)
    with torch.inference_mode():
        layer(torch.ones(4, 4))
    inputs = torch.ones(4, 4, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad is not None


def test_it_is_an_instance_of_nn_dropout() -> None:
    assert isinstance(Dropout(0.5), nn.Dropout)
