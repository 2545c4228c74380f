"""Layers of named convolutional networks, for images of any sufficient size.

Each function takes the image's shape, width, depth, dropout and the number of outputs, and returns the layers
from pixels to logits. The published networks are scaled down to small images.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lightning_modules.dropout import Dropout


def small(
    image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int, quick: bool = False
) -> list[nn.Module]:
    """`depth` blocks of 3x3 convolution, max-pooling, normalization and ReLU, each twice as wide as the one before."""
    channels, height, image_width = image_shape
    _check_depth(image_shape, depth)
    layers: list[nn.Module] = []
    for block in range(depth):
        if quick and block == 0:
            layers.append(nn.Conv2d(channels, width, kernel_size=5, stride=2, padding=2, bias=False))
            height, image_width = (height + 1) // 2, (image_width + 1) // 2
        else:
            layers.append(nn.Conv2d(channels, width << block, kernel_size=3, padding=1, bias=False))
            layers.append(nn.MaxPool2d(2))  # before the normalization, which then processes a quarter of the pixels
            height, image_width = height // 2, image_width // 2
        channels = width << block
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    features = channels * height * image_width
    return [*layers, nn.Flatten(), Dropout(dropout), nn.Linear(features, outputs)]


def quick(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """`small` with a 5x5 convolution of stride 2 instead of pooling in the first block."""
    return small(image_shape, width, depth, dropout, outputs, quick=True)


def compact(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """Few parameters: blocks as in `quick`, each 1.6 times as wide, then a kernel per channel over the whole map.

    The last layer of `small` has most of its parameters, a weight per class, channel and place. Here places are first
    weighted per channel (global depthwise convolution; Chen et al. 2018, MobileFaceNets, arXiv:1804.07573).
    """
    channels, height, image_width = image_shape
    _check_depth(image_shape, depth)
    layers: list[nn.Module] = []
    for block in range(depth):
        wide = round(width * 1.6**block)
        if block == 0:
            layers.append(nn.Conv2d(channels, wide, kernel_size=5, stride=2, padding=2, bias=False))
            height, image_width = (height + 1) // 2, (image_width + 1) // 2
        else:
            layers += [nn.Conv2d(channels, wide, kernel_size=3, padding=1, bias=False), nn.MaxPool2d(2)]
            height, image_width = height // 2, image_width // 2
        layers += [nn.BatchNorm2d(wide), nn.ReLU()]
        channels = wide
    layers.append(nn.Conv2d(channels, channels, kernel_size=(height, image_width), groups=channels, bias=False))
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), Dropout(dropout), nn.Linear(channels, outputs)]
    return layers


def lenet5(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """LeNet-5 (LeCun et al. 1998, Proc. IEEE 86(11), fig. 2), with its own width and depth.

    All feature maps are connected with each other, and softmax replaces the RBF units.
    """
    channels, height, image_width = image_shape
    _check_side("lenet5", image_shape, 12)
    # The paper pads 28x28 digits to 32x32; padding the first convolution does the same for any size.
    rows, columns = ((side // 2 - 4) // 2 for side in (height, image_width))
    return [
        nn.Conv2d(channels, 6, kernel_size=5, padding=2),  # C1
        nn.Tanh(),
        nn.AvgPool2d(2),  # S2
        nn.Conv2d(6, 16, kernel_size=5),  # C3
        nn.Tanh(),
        nn.AvgPool2d(2),  # S4
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),  # C5, a 5x5 convolution over the whole remaining map
        nn.Tanh(),
        nn.Linear(120, 84),  # F6
        nn.Tanh(),
        Dropout(dropout),
        nn.Linear(84, outputs),
    ]


def alexnet(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """Five convolutions, with pooling after the first two and the last, then three fully connected layers.

    After AlexNet (Krizhevsky et al. 2012, fig. 2): overlapping max-pooling, ReLU, dropout before the fully
    connected layers. It has its own depth; the paper's width of 96 is 16 here by default.
    """
    channels, height, image_width = image_shape
    _check_side("alexnet", image_shape, 16)
    rows, columns = (((side - 1) // 2 - 1) // 2 for side in (height, image_width))
    rows, columns = (rows - 1) // 2, (columns - 1) // 2
    wide = 4 * width
    return [
        nn.Conv2d(channels, width, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(2 * width, wide, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(wide, wide, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(wide, 2 * width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Flatten(),
        Dropout(dropout),
        nn.Linear(2 * width * rows * columns, 16 * width),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(16 * width, 16 * width),
        nn.ReLU(),
        nn.Linear(16 * width, outputs),
    ]


def vgg(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """`depth` blocks of two 3x3 convolutions and a max-pooling, each twice as wide as the one before.

    After VGG (Simonyan & Zisserman 2015, arXiv:1409.1556), with batch normalization and one hidden layer.
    """
    channels, height, image_width = image_shape
    _check_depth(image_shape, depth)
    layers: list[nn.Module] = []
    for block in range(depth):
        for _ in range(2):
            layers.append(nn.Conv2d(channels, width << block, kernel_size=3, padding=1, bias=False))
            channels = width << block
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    features = channels * (height >> depth) * (image_width >> depth)
    hidden = 8 * width
    return [
        *layers,
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(hidden, outputs),
    ]


def resnet(image_shape: Sequence[int], width: int, depth: int, dropout: float, outputs: int) -> list[nn.Module]:
    """A 3x3 convolution, `depth` stages of two residual blocks, each twice as wide, and global average pooling.

    After ResNet for small images (He et al. 2016, arXiv:1512.03385, section 4.2).
    """
    channels = image_shape[0]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    channels = width
    for stage in range(depth):
        layers.append(Residual(channels, width << stage, stride=1 if stage == 0 else 2))
        channels = width << stage
        layers.append(Residual(channels, channels, stride=1))
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(dropout), nn.Linear(channels, outputs)]


class Residual(nn.Module):
    """Two 3x3 convolutions whose output is added to their input: ReLU(x + F(x)).

    If width or size changes, the input passes through a 1x1 convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            convolution = nn.Conv2d(channels, width, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(width))
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.activation(self.residual(images) + self.shortcut(images))


def _check_depth(image_shape: Sequence[int], depth: int) -> None:
    _, height, width = image_shape
    deepest = min(height, width).bit_length() - 1
    if depth > deepest:
        raise ValueError(
            f"depth must be at most {deepest} for images of {height}x{width} pixels, "
            f"which each block halves, but got {depth=}"
        )


def _check_side(name: str, image_shape: Sequence[int], least: int) -> None:
    _, height, width = image_shape
    if min(height, width) < least:
        raise ValueError(
            f"architecture={name} needs images of at least {least}x{least} pixels, but got {height}x{width}"
        )


ARCHITECTURES: dict[str, Callable[[Sequence[int], int, int, float, int], list[nn.Module]]] = {
    "small": small,
    "quick": quick,
    "compact": compact,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg": vgg,
    "resnet": resnet,
}
