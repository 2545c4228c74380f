"""Converts images, in the usual forms for logging, to PIL images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image

CHANNELS = (1, 3, 4)
COLUMNS = 8  # images per row of a grid


def as_numbers(values: Any) -> np.ndarray:
    """Converts a tensor, on any device and with or without gradient, or anything array-like, to an array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).resolve_conj().resolve_neg().numpy()
    if isinstance(values, list | tuple) and any(isinstance(item, torch.Tensor) for item in values):
        return np.stack([as_numbers(item) for item in values])
    return np.asarray(values)


def as_image(image: Any, dataformats: str | None = None) -> Image.Image:
    """A picture as a PIL image.

    Args:
        image: a PIL image, an object that holds one (`image`, `to_pil`), or an array or tensor of values from 0 to 1,
            or of integers from 0 to 255.
        dataformats: order of its dimensions, in the letters N, C, H, W; None: guessed from the shape.

    Raises:
        ValueError: it does not have the shape of an image.
    """
    if isinstance(image, Image.Image):
        return image
    for attribute in ("to_pil", "image"):
        held = getattr(image, attribute, None)
        held = held() if callable(held) else held
        if isinstance(held, Image.Image):
            return held
    pixels = _bytes(as_numbers(image))
    pixels = _channels_last(pixels, dataformats or _guess(pixels, isinstance(image, torch.Tensor)))
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _guess(pixels: np.ndarray, channels_first: bool) -> str:
    if pixels.ndim == 2:
        return "HW"
    first, last = pixels.shape[-3:][0] in CHANNELS, pixels.shape[-1:] in [(count,) for count in CHANNELS]
    order = "CHW" if first and (channels_first or not last) else "HWC"
    return order if pixels.ndim == 3 else f"N{order}"


def _bytes(values: np.ndarray) -> np.ndarray:
    """Values as uint8: floats, booleans and masks from 0 to 1, other integers from 0 to 255."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool or np.issubdtype(values.dtype, np.floating) or values.max(initial=0) <= 1:
        values = np.nan_to_num(values.astype(np.float32)) * 255
    elif not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"a picture must have a numeric type, but has {values.dtype}")
    return values.clip(0, 255).astype(np.uint8)


def _channels_last(pixels: np.ndarray, dataformats: str) -> np.ndarray:
    """Pixels (H, W, C); several pictures as a grid."""
    order = dataformats.upper()
    if pixels.ndim == 2 and order in ("CHW", "HWC"):
        order = "HW"
    if pixels.ndim == 3 and order in ("NCHW", "NHWC"):
        order = order[1:]
    if len(order) != pixels.ndim or not {"H", "W"} <= set(order) <= set("NCHW") or len(set(order)) != len(order):
        raise ValueError(f"a picture of shape {pixels.shape} does not have dimensions {dataformats}")
    for missing in "CN":
        if missing not in order:
            pixels, order = pixels[..., None], order + missing
    images = pixels.transpose([order.index(letter) for letter in "NHWC"])
    if images.shape[-1] not in CHANNELS or not images.size:
        raise ValueError(
            f"a picture has 1, 3 or 4 channels, but shape {pixels.shape} as {order} has {images.shape[-1]}"
        )
    return _grid(images)


def _grid(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in rows of up to eight, as one (H, W, C)."""
    count, height, width, channels = images.shape
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * height, columns * width, channels), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    return sheet
