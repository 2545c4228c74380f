import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_modules import CNN
from lightning_modules.architectures import ARCHITECTURES, Residual


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
def test_small_and_quick_accept_every_large_enough_image(
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


@pytest.mark.parametrize(("width", "parameters"), [(8, 3_988), (12, 8_438)])
def test_compact_has_as_many_parameters_as_its_experiments_say(width: int, parameters: int) -> None:
    module = CNN(architecture="compact", width=width)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


def test_compact_weighs_every_place_of_each_channel() -> None:
    module = CNN(architecture="compact", width=2, image_shape=(1, 28, 20))
    weighing = [layer for layer in module.network if isinstance(layer, nn.Conv2d)][-1]
    assert weighing.weight.shape == (5, 1, 3, 2) and weighing.groups == 5  # round(2 * 1.6**2) channels


@pytest.mark.parametrize("side", range(12, 20))
def test_lenet5_accepts_other_images(side: int) -> None:
    module = CNN(architecture="lenet5", image_shape=(3, side, side + 5), num_classes=7)

    assert module(torch.randn(2, 3, side, side + 5)).shape == (2, 7)


@pytest.mark.parametrize(("architecture", "least"), [("alexnet", 16), ("vgg", 8), ("resnet", 1), ("compact", 8)])
@pytest.mark.parametrize("more", range(5))
def test_published_networks_accept_other_images(architecture: Any, least: int, more: int) -> None:
    side = least + more
    module = CNN(architecture=architecture, width=2, image_shape=(3, side, side + 3), num_classes=7)

    logits = module(torch.randn(2, 3, side, side + 3))
    logits.sum().backward()
    assert logits.shape == (2, 7)
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_residual_block_that_adds_nothing_passes_its_input_on() -> None:
    block = Residual(4, 4, stride=1).eval()
    torch.nn.init.zeros_(block.residual[3].weight)
    images = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(images), images)


def test_pictures_show_filters_and_feature_maps() -> None:
    module = CNN(architecture="small", width=3, depth=2).train()
    pictures = module.pictures([(torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 3]))])

    assert pictures["filters"]["kernels"].shape == (3, 3, 3)
    shapes = [maps.shape for maps in pictures["feature_maps"]["maps"].values()]
    assert shapes == [(3, 14, 14), (6, 7, 7)]
    assert module.training


def convolved(image: Any, kernel: Any) -> list[list[int]]:
    """A convolution as the course defines it: the sum of products of kernel and window at each position."""
    rows, columns = len(image) - len(kernel) + 1, len(image[0]) - len(kernel[0]) + 1
    return [
        [
            sum(image[r + i][c + j] * kernel[i][j] for i in range(len(kernel)) for j in range(len(kernel[0])))
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_a_convolution_is_the_courses_worked_example() -> None:
    image = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    kernel = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
    expected = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    layer = nn.Conv2d(1, 1, kernel_size=3, bias=False)
    layer.weight.data = torch.tensor(kernel).float().view(1, 1, 3, 3)

    assert convolved(image, kernel) == expected
    assert layer(torch.tensor(image).float().view(1, 1, 5, 5)).view(3, 3).tolist() == expected


def test_convolution_and_pooling_equal_their_definitions() -> None:
    torch.manual_seed(0)
    image, layer = torch.randn(7, 6), nn.Conv2d(1, 2, kernel_size=3)
    for channel in range(2):
        loops = torch.tensor(convolved(image.tolist(), layer.weight[channel, 0].tolist())) + layer.bias[channel]
        assert torch.allclose(layer(image.view(1, 1, 7, 6))[0, channel], loops, atol=1e-5)
    for pool, reduce in ((nn.MaxPool2d(2), max), (nn.AvgPool2d(2), lambda values: sum(values) / 4)):
        loops = torch.tensor(
            [
                [reduce([float(image[2 * r + i, 2 * c + j]) for i in (0, 1) for j in (0, 1)]) for c in range(3)]
                for r in range(3)
            ]
        )
        assert torch.allclose(pool(image.view(1, 1, 7, 6)).view(3, 3), loops, atol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    images = torch.randn(4, 1, 28, 28)
    for architecture in ARCHITECTURES:
        module = CNN(architecture=architecture, dropout=0.5)
        assert not torch.equal(module(images), module(images))
        module.eval()
        assert torch.equal(module(images), module(images))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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
        ({"architecture": "resnext"}, "architecture must be one of small, quick, compact, lenet5, alexnet.*'resnext'"),
        ({"width": 0}, "width must be at least 1, but got width=0"),
        ({"depth": 0}, "depth must be at least 1, but got depth=0"),
        ({"depth": 5}, "depth must be at most 4 for images of 28x28 pixels.*but got depth=5"),
        ({"dropout": 1.0}, r"dropout must be .* less than 1, but got dropout=1\.0"),
        ({"architecture": "lenet5", "image_shape": (1, 11, 28)}, "at least 12x12 pixels, but got 11x28"),
        ({"weight_decay": -1.0}, r"but got weight_decay=-1\.0"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CNN(**arguments)
