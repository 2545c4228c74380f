"""A picture in 256 shades, against its own colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.plots import colours as palette

COLOURS = (palette.BLUE, palette.ORANGE, palette.GREEN, palette.SKY, palette.PURPLE, palette.INK, palette.GREY)


def picture(colours: np.ndarray) -> np.ndarray:
    """uint8 (N, 3) -> (20, 20 N, 4): a stripe of each."""
    stripes = colours[None].repeat(20, 0).repeat(20, 1)
    return np.dstack([stripes, np.full(stripes.shape[:2], 255, dtype=np.uint8)])


def test_all_shades_are_different_and_the_colours_themselves_are_among_them() -> None:
    shades = {tuple(shade) for shade in palette.shades().tolist()}
    assert len(palette.shades()) == len(shades) == 256
    named = [tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5)) for colour in COLOURS]
    assert shades >= {*named, (230, 230, 230), (255, 255, 255), (0, 0, 0)}


@given(st.lists(st.tuples(st.sampled_from(COLOURS), st.floats(0, 1)), min_size=1, max_size=30))
@settings(max_examples=60)
def test_a_tint_is_shown_as_one_that_nobody_can_tell_from_it(tints: list[tuple[str, float]]) -> None:
    colours = np.array([255 + share * (palette._rgb(colour) - 255) for colour, share in tints]).round().astype(np.uint8)
    image = palette.in_our_colours(picture(colours))
    assert image is not None and image.mode == "P"
    errors = np.abs(np.asarray(image.convert("RGB")).astype(int) - picture(colours)[..., :3]).max(axis=2)
    fine = {palette.BLUE, palette.ORANGE, palette.INK, palette.GREY}  # what whole areas are of; the others draw lines
    assert errors.max() <= (5 if {colour for colour, _ in tints} <= fine else 12)


def test_shades_are_found_anew_for_each_picture() -> None:
    """What was found for one picture holds for the next, and what was not is found then."""
    palette._known.cache_clear()
    for colour in (palette.BLUE, palette.ORANGE, palette.BLUE):
        image = palette.in_our_colours(picture(palette._rgb(colour).astype(np.uint8)[None]))
        assert image is not None
        assert image.convert("RGB").getpixel((3, 3)) == tuple(palette._rgb(colour).astype(int))


@pytest.mark.parametrize("kind", ["noise", "stripes of all colours", "a gradient"])
def test_a_picture_of_other_colours_keeps_its_own(kind: str) -> None:
    random = np.random.default_rng(0)
    pixels = {
        "noise": random.integers(0, 2, (50, 50, 4), dtype=np.uint8),  # 16 colours, but no two pixels alike
        "stripes of all colours": picture(random.integers(0, 256, (60, 3), dtype=np.uint8)),
        "a gradient": picture(np.stack([np.arange(256), np.full(256, 200), np.arange(256)], 1).astype(np.uint8)),
    }
    assert palette.in_our_colours(pixels[kind]) is None
