"""The colours of all pictures, and a picture in 256 shades of them: a third of the work to write.

They are Okabe and Ito's, told apart by colour-blind readers too.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

BLUE, ORANGE, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"
GREY, INK, GRID = "#999999", "#333333", "#E6E6E6"

BITS = 6  # of each of red, green and blue that are looked at: steps of 4 of 255, which nobody sees
NEAR = 16.0  # distance, of 255 from black to a pure colour, up to which a shade is taken for another
OFF = 0.005  # share of a picture's pixels that may be farther: where letters of one colour stand on another


def in_our_colours(pixels: np.ndarray) -> Image.Image | None:
    """A picture, uint8 (H, W, 4), in the nearest of `shades`; None if it has other colours, as a photograph has."""
    values = np.ascontiguousarray(pixels).view(np.uint32).ravel()
    begins = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))  # of runs of one colour
    if len(begins) > len(values) // 8:
        return None
    lengths = np.diff(begins, append=len(values))
    runs = values[begins].view(np.uint8).reshape(-1, 4)[:, :3]
    codes = (runs >> (8 - BITS)).astype(np.intp) @ (1, 1 << BITS, 1 << 2 * BITS)
    nearest, distance = _known()
    new = np.unique(codes[nearest[codes] < 0])
    if len(new):
        nearest[new], distance[new] = _nearest(new)
    if lengths[distance[codes] > NEAR].sum() > OFF * len(values):
        return None
    indices = np.repeat(nearest[codes].astype(np.uint8), lengths).reshape(pixels.shape[:2])
    image = Image.fromarray(indices, "P")
    image.putpalette(shades().tobytes(), "RGB")
    return image


@functools.cache
def shades() -> np.ndarray:
    """uint8 (256, 3): white, all colours and greys, and of tints and letters on tints those that are farthest apart."""
    ink = _rgb(INK)
    greys = np.linspace(0, 255, 49, dtype=np.float32)[:, None].repeat(3, 1)
    tints = [_tints(colour, 56) for colour in (BLUE, ORANGE)] + [_tints(colour, 12) for colour in (GREEN, SKY, PURPLE)]
    first = np.concatenate([greys, [ink, _rgb(GREY), _rgb(GRID)], *tints])
    steps = np.linspace(0, 1, 17, dtype=np.float32)[:, None]
    letters = [tint + steps * (ink - tint) for tint in np.concatenate(tints)]
    candidates = np.concatenate([first, *letters])
    chosen = list(range(len(first)))
    distance = np.min([_squares(candidates, colour) for colour in first], axis=0)
    while len(chosen) < 256:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, _squares(candidates, candidates[chosen[-1]]))
    return candidates[chosen].round().astype(np.uint8)


def _tints(colour: str, count: int) -> np.ndarray:
    """float32 (count, 3): from a colour almost to white."""
    share = np.linspace(1, 0, count, endpoint=False, dtype=np.float32)[:, None]
    return 255 + share * (_rgb(colour) - 255)


@functools.cache
def _known() -> tuple[np.ndarray, np.ndarray]:
    """Of each code the nearest shade, -1 while nobody has asked, and how far it is."""
    return np.full(1 << 3 * BITS, -1, dtype=np.int16), np.zeros(1 << 3 * BITS, dtype=np.float32)


def _nearest(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = np.stack([codes >> shift * BITS & (1 << BITS) - 1 for shift in range(3)], 1).astype(np.float32)
    colours = parts * 255 / ((1 << BITS) - 1)
    best = np.zeros(len(codes), dtype=np.int16)
    least = np.full(len(codes), np.inf, dtype=np.float32)
    for index, shade in enumerate(shades().astype(np.float32)):
        squares = _squares(colours, shade)
        closer = squares < least
        best[closer], least[closer] = index, squares[closer]
    return best, np.sqrt(least)


def _squares(colours: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.square(colours - colour).sum(axis=1)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], dtype=np.float32)
