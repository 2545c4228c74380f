"""A fully convolutional network with outputs for each place of an image."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


class UNet(nn.Module):
    """A U-Net: a contracting and an expanding path with skip connections.

    After U-Net (Ronneberger et al. 2015, arXiv:1505.04597), with batch normalization. At the input, blocks of
    stride x stride pixels become channels, so that it operates on a grid of places instead of pixels. It accepts
    images of any height and width that are multiples of `UNet.multiple`.

    Args:
        channels: of the image.
        outputs: numbers per place.
        stride: pixels between places, >= 1.
        width: channels at full resolution, >= 1; each level down has twice as many.
        depth: levels, each half as large as the one above, >= 1.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, channels: int, outputs: int, stride: int, width: int, depth: int) -> None:
        super().__init__()
        for name, value in {"width": width, "depth": depth}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {name}={value}")
        self.multiple = stride << (depth - 1)
        self.to_places = nn.PixelUnshuffle(stride)
        widths = [width << level for level in range(depth)]
        entries = [channels * stride**2, *widths]
        self.down = nn.ModuleList(_convolutions(entries[level], widths[level]) for level in range(depth))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            _convolutions(widths[level + 1] + widths[level], widths[level]) for level in range(depth - 1)
        )
        self.head = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, outputs, H / stride, W / stride) of images (B, channels, H, W)."""
        features, seen = self.to_places(images), []
        for level, convolutions in enumerate(self.down):
            features = convolutions(features if level == 0 else self.pool(features))
            seen.append(features)
        for level in reversed(range(len(self.up))):
            features = torch.cat([interpolate(features, scale_factor=2.0), seen[level]], dim=1)
            features = self.up[level](features)
        return self.head(features)


def check_image(image_shape: tuple[int, int], multiple: int) -> None:
    """Rejects images whose sides cannot be halved often enough.

    Raises:
        ValueError: a side is not a multiple of `multiple`.
    """
    height, width = image_shape
    if height % multiple or width % multiple:
        raise ValueError(
            f"depth needs images whose sides are multiples of {multiple} pixels, but they have {height}x{width}"
        )


def _convolutions(channels: int, width: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalization and ReLU."""
    layers: list[nn.Module] = []
    for entry in (channels, width):
        layers += [nn.Conv2d(entry, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)
