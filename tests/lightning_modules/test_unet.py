import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.unet import UNet, check_image


@settings(deadline=None, max_examples=20)
@given(
    stride=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_it_accepts_any_size_that_can_be_halved(
    stride: int, depth: int, rows: int, columns: int, channels: int
) -> None:
    network = UNet(channels, 5, stride, 2, depth)
    assert network.multiple == stride * 2 ** (depth - 1)
    height, width = rows * network.multiple, columns * network.multiple
    outputs = network(torch.randn(2, channels, height, width))
    assert outputs.shape == (2, 5, height // stride, width // stride)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_place_depends_on_near_and_far_pixels() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, 2, 4, 3).eval()
    image = torch.randn(1, 1, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[0, 0, 16, 16], image)
    assert gradient[0, 0, 32:34, 32:34].abs().min() > 0
    seen = gradient[0, 0].abs().amax(dim=0).nonzero()
    assert seen.max() - seen.min() >= 28, "as wide as a digit"


@pytest.mark.parametrize("argument", ["width", "depth"])
def test_sizes_below_1_are_rejected(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, but got {argument}=0"):
        UNet(1, 1, 1, **{"width": 2, "depth": 2, argument: 0})


def test_images_that_cannot_be_halved_are_rejected() -> None:
    check_image((64, 32), 16)
    with pytest.raises(ValueError, match="multiples of 16 pixels, but they have 64x40"):
        check_image((64, 40), 16)
