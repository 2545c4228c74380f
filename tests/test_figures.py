"""Pictures as they are saved: what a file shows is what was drawn."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from studies import figures, plots


@given(
    palette=arrays(np.uint8, st.tuples(st.integers(1, 256), st.just(3))),
    indices=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)),
)
@settings(max_examples=60)
def test_a_picture_of_256_colours_is_kept_to_the_bit(palette: np.ndarray, indices: np.ndarray) -> None:
    rgb = palette[indices.astype(int) % len(palette)].repeat(20, axis=1)  # runs of one colour, as drawings have them
    image = figures._of_few_colours(np.dstack([rgb, np.full(rgb.shape[:2], 255, dtype=np.uint8)]))
    assert image is not None and (np.asarray(image.convert("RGB")) == rgb).all()


def shades(count: int) -> np.ndarray:
    """A picture (64, 640, 4) of white with so many shades of grey and red in it, each of them rare."""
    pixels = np.full((64, 640, 4), 255, dtype=np.uint8)
    place = np.arange(count)
    pixels[place // 32, place % 32 * 20, :3] = np.stack([place // 4, place % 4 * 2 + place // 4, place // 4], 1) % 256
    return pixels


def test_of_more_colours_the_rarest_become_those_beside_them() -> None:
    pixels = shades(600)
    colours = len(np.unique(pixels.reshape(-1, 4), axis=0))
    assert 256 < colours <= figures.COLOURS
    image = figures._of_few_colours(pixels)
    assert image is not None
    shown = np.asarray(image.convert("RGB")).astype(int)
    errors = np.abs(shown - pixels[..., :3]).max(axis=2)
    assert (shown[40:] == 255).all(), "what there is most of stays"
    assert 0 < (errors > 0).sum() <= colours - figures.OFTEN and errors.max() <= 40


@pytest.mark.parametrize("kind", ["noise", "many"])
def test_a_picture_of_many_colours_keeps_them_all(kind: str) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 2, (50, 50, 4), dtype=np.uint8)  # 16 colours, but no two pixels alike
    many = random.integers(0, 256, (60, 60, 4), dtype=np.uint8).repeat(20, axis=1)
    assert figures._of_few_colours(noise if kind == "noise" else many) is None


def test_a_file_shows_what_was_drawn(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 30, (10, 10))
    figure = plots.confusion_matrix(counts, [str(digit) for digit in range(10)])
    figures.save(figure, tmp_path / "deep" / "matrix.png")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    with Image.open(tmp_path / "deep" / "matrix.png") as image:
        assert image.mode == "P" and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1000, "of more shades than it has"
        errors = np.abs(np.asarray(image.convert("RGB")).astype(int) - drawn).max(axis=2)
    assert errors.max() <= 16 and (errors > 6).mean() < 0.01 and (errors > 0).mean() < 0.03
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["matrix.png"], "no half-written file is left"
