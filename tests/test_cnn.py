import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_modules import CNN


@settings(deadline=None, max_examples=25)
@given(
    architecture=st.sampled_from(["small", "quick"]),
    width=st.integers(1, 4),
    depth=st.integers(1, 4),
    channels=st.integers(1, 3),
    height=st.integers(1, 33),
    image_width=st.integers(1, 33),
    num_classes=st.integers(2, 4),
)
def test_small_and_quick_fit_every_image_that_is_large_enough_for_their_depth(
    architecture: str, width: int, depth: int, channels: int, height: int, image_width: int, num_classes: int
) -> None:
    arguments: dict[str, Any] = {
        "architecture": architecture,
        "width": width,
        "depth": depth,
        "image_shape": (channels, height, image_width),
        "num_classes": num_classes,
    }
    if min(height, image_width) < 2**depth:
        with pytest.raises(ValueError, match=f"{height}x{image_width} pixels.*but got depth={depth}"):
            CNN(**arguments)
        return
    module = CNN(**arguments)
    logits = module(torch.randn(4, channels, height, image_width))
    logits.sum().backward()

    assert logits.shape == (4, num_classes)
    assert all(parameter.grad is not None for parameter in module.parameters())
    convolutions = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions == [width * 2**block for block in range(depth)]


def test_lenet5_has_the_layers_of_the_paper() -> None:
    module = CNN(architecture="lenet5")
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    # 61706 = 156 + 2416 + 48120 + 10164 + 850: figure 2 of the paper with full connections in C3 (there
    # 1516) and ordinary output units in place of radial basis functions.
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (6, 1, 5, 5),
        (16, 6, 5, 5),
        (120, 400),
        (84, 120),
        (10, 84),
    ]
    assert sum(parameter.numel() for parameter in module.parameters()) == 61_706


@pytest.mark.parametrize("side", range(12, 20))
def test_lenet5_fits_other_images(side: int) -> None:
    module = CNN(architecture="lenet5", image_shape=(3, side, side + 5), num_classes=7)

    assert module(torch.randn(2, 3, side, side + 5)).shape == (2, 7)


def test_dropout_acts_in_training_only() -> None:
    images = torch.randn(4, 1, 28, 28)
    for architecture in ("small", "quick", "lenet5"):
        module = CNN(architecture=architecture, dropout=0.5)
        assert not torch.equal(module(images), module(images))
        module.eval()
        assert torch.equal(module(images), module(images))


@pytest.mark.parametrize("architecture", ["small", "quick", "lenet5"])
def test_export_takes_any_batch_size(architecture: Any) -> None:
    module = CNN(architecture=architecture, width=2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(
            module, (torch.randn(2, 1, 28, 28),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        ).module()

    images = torch.randn(5, 1, 28, 28)
    assert torch.allclose(exported(images), module(images), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "resnet"}, "architecture must be one of small, quick, lenet5.*'resnet'"),
        ({"width": 0}, "width must be at least 1, but got width=0"),
        ({"depth": 0}, "depth must be at least 1, but got depth=0"),
        ({"depth": 5}, "depth must be at most 4 for images of 28x28 pixels.*but got depth=5"),
        ({"dropout": 1.0}, r"dropout must be .* less than 1, but got dropout=1\.0"),
        ({"architecture": "lenet5", "image_shape": (1, 11, 28)}, "at least 12x12 pixels, but got 11x28"),
        ({"weight_decay": -1.0}, r"but got weight_decay=-1\.0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CNN(**arguments)
