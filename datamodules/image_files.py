"""Reads image files in MNIST's style: grey, light on dark; one figure centred in 28x28, or a whole canvas."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SIDE, BOX = 28, 20  # MNIST's figures fill a box of 20x20 pixels, their centre of mass in the middle of 28x28
LARGEST = 40_000_000  # pixels that are decoded at most: a file of some kilobytes may have billions
ENOUGH = 2048  # pixels of a side; larger images are scaled to it as they are read
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # other decoders of Pillow are not needed


def read_figure(path: str | Path) -> tuple[Tensor, list[str]]:
    """Reads one figure, such as a handwritten digit.

    A 28x28 grey image, light on dark, is used unchanged. Others are converted as MNIST was
    (LeCun et al. 1998, section III.A): cropped to the figure, scaled to 20 pixels, centred by mass.

    Args:
        path: PNG, JPEG, WebP, GIF or BMP.

    Returns:
        uint8 (28, 28), 0 is background; and notes on the conversions.

    Raises:
        ValueError: in one line: no such file, not an image, or a blank image.
    """
    pixels, notes = _light_on_dark(Path(path))
    if pixels.shape != (SIDE, SIDE):
        height, width = pixels.shape
        pixels = _centred(pixels)
        notes.append(f"cut to the figure, scaled and centred: it was {width}x{height}")
    return pixels.round().to(torch.uint8), notes


def read_canvas(path: str | Path, side: int) -> tuple[Tensor, list[str]]:
    """Reads a canvas with any number of figures.

    Scaled down if larger than side x side, centred on black if smaller.

    Args:
        path: PNG, JPEG, WebP, GIF or BMP.
        side: pixels.

    Returns:
        uint8 (side, side), 0 is background; and notes on the conversions.

    Raises:
        ValueError: in one line: no such file, not an image, or a blank image.
    """
    pixels, notes = _light_on_dark(Path(path))
    height, width = pixels.shape
    if notes:  # not in MNIST's style: paper may be shaded
        pixels = _without_shade(pixels) * 255
    if max(height, width) > side:
        scale = side / max(height, width)
        pixels = _scaled(pixels, [max(1, round(length * scale)) for length in (height, width)])
        notes.append(f"scaled to {pixels.shape[1]}x{pixels.shape[0]}: it was {width}x{height}")
    elif pixels.shape != (side, side):
        notes.append(f"laid in the middle of {side}x{side}: it was {width}x{height}")
    canvas = torch.zeros(side, side)
    top, left = ((side - length) // 2 for length in pixels.shape)
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas.round().to(torch.uint8), notes


def _light_on_dark(path: Path) -> tuple[Tensor, list[str]]:
    """An image file as float (H, W), 0 to 255, with dark background, and notes on the conversions."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(
                    f"{path} is too large: {image.width}x{image.height} pixels, at most {LARGEST} are read"
                )
            image.draft(None, (ENOUGH, ENOUGH))  # a JPEG is decoded at a fraction of its size
            image.load()
            if max(image.size) > ENOUGH and image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
                image.thumbnail((ENOUGH, ENOUGH))
            pixels, notes = _grey(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large: {error}") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        what = (
            "is empty"
            if path.stat().st_size == 0
            else "is no image that can be read (PNG, JPEG, WebP, GIF and BMP can)"
        )
        raise ValueError(f"{path} {what}") from error
    border = torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if border.median() > 127:
        pixels = 255 - pixels
        notes.append("inverted: it was dark on light")
    if pixels.amax() - pixels.amin() < 16:
        raise ValueError(f"{path} is blank: all its pixels are alike")
    return pixels, notes


def _grey(image: Image.Image) -> tuple[Tensor, list[str]]:
    """Float (H, W), 0 to 255, and notes on the conversions."""
    notes = []
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        if alpha.min() == 255:
            image = image.convert("RGB")
    if image.mode == "RGBA":
        ink = np.asarray(image.convert("RGB").convert("L"))[alpha > 127]
        # The drawing's brightness decides the background.
        back = "white" if ink.size == 0 or ink.mean() < 128 else "black"
        image = Image.alpha_composite(Image.new("RGBA", image.size, back), image).convert("RGB")
        notes.append(f"laid on {back}: it was transparent")
    if image.mode not in ("L", "1", "I", "I;16", "F"):
        colours = np.asarray(image.convert("RGB")).astype(np.int16)
        if (np.abs(np.diff(colours, axis=2)) > 8).any():
            notes.append("made grey: it was coloured")
        image = image.convert("L")
    pixels = torch.from_numpy(np.asarray(image).astype(np.float32))
    if pixels.amax() > 255 or image.mode == "1":
        pixels = pixels * (255 / max(float(pixels.amax()), 1e-6))
    return pixels, notes


def _centred(pixels: Tensor) -> Tensor:
    """(H, W) -> (28, 28), as in MNIST."""
    pixels = _without_shade(pixels)
    rows, columns = pixels.amax(dim=1).nonzero().squeeze(1), pixels.amax(dim=0).nonzero().squeeze(1)
    figure = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(figure.shape)
    size = [max(1, round(side * scale)) for side in figure.shape]
    small = _scaled(figure, size)
    small = small / small.amax() * 255
    grid = torch.zeros(3 * SIDE, 3 * SIDE)
    grid[SIDE : SIDE + size[0], SIDE : SIDE + size[1]] = small
    mass = grid.sum()
    middle = [(grid.sum(dim=1 - axis) * torch.arange(3.0 * SIDE)).sum() / mass for axis in (0, 1)]
    top, left = (round(float(centre) - (SIDE - 1) / 2) for centre in middle)
    return grid[top : top + SIDE, left : left + SIDE]


def _without_shade(pixels: Tensor) -> Tensor:
    """(H, W) scaled to 0..1, with near-background values set to 0."""
    low, high = pixels.amin(), pixels.amax()
    return ((pixels - low) / (high - low) - 0.15).clamp(min=0) / 0.85


def _scaled(pixels: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(pixels[None, None], size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
