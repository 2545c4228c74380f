import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from studies.acceleration.matplotlib.quick_png import write_png
from studies.plots import figure as figures
from studies.plots.learning_curves import learning_curves


def written(pixels: np.ndarray) -> Image.Image:
    file = io.BytesIO()
    write_png(pixels, file)
    image = Image.open(io.BytesIO(file.getvalue()))
    image.verify()  # checksums
    return Image.open(io.BytesIO(file.getvalue()))


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))))
def test_any_pixels_are_read_back_without_their_alpha_channel(pixels: np.ndarray) -> None:
    image = written(pixels)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), pixels[:, :, :3])


@pytest.mark.parametrize("view", ["rows", "columns", "read-only"])
def test_pixels_may_be_a_view(view: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
    pixels = {"rows": pixels[::2], "columns": pixels[:, ::2], "read-only": pixels}[view]
    pixels.flags.writeable = view != "read-only"
    np.testing.assert_array_equal(np.asarray(written(pixels)), pixels[:, :, :3])


def test_a_picture_is_the_same_as_pillows_and_no_larger() -> None:
    figure = learning_curves({"train/loss": ([1, 2, 3], [1.0, 0.5, 0.4]), "val/loss": ([1, 3], [1.0, 0.6])})
    pixels = figures.pixels_of(figure)
    ours, pillows = io.BytesIO(), io.BytesIO()
    write_png(pixels, ours)
    figures.write_png(pixels, pillows)
    np.testing.assert_array_equal(np.asarray(Image.open(ours)), np.asarray(Image.open(pillows)))
    assert len(ours.getvalue()) < 1.2 * len(pillows.getvalue())
