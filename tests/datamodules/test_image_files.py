from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from datamodules.image_files import read_canvas, read_figure


def drawn(side: int = 28, shift: int = 0, size: int | None = None) -> Image.Image:
    """A bar, light on dark, somewhere in a square."""
    image = Image.new("L", (side, side), 0)
    size = size or side // 2
    left, top = side // 3 + shift, side // 4 + shift
    ImageDraw.Draw(image).rectangle((left, top, left + size // 4, top + size), fill=255)
    return image


def saved(folder: Path, image: Image.Image, name: str = "figure.png") -> Path:
    image.save(folder / name)
    return folder / name


def test_an_image_in_mnists_format_is_unchanged(tmp_path: Path) -> None:
    pixels, notes = read_figure(saved(tmp_path, drawn()))
    assert pixels.dtype == torch.uint8 and notes == []
    assert np.array_equal(pixels.numpy(), np.asarray(drawn()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: Image.eval(image, lambda value: 255 - value), ["inverted"]),
        (lambda image: Image.merge("RGB", [image, image, Image.new("L", image.size)]), ["made grey"]),
        (lambda image: Image.merge("RGB", [image] * 3), []),
        (lambda image: image.convert("1"), []),
        (lambda image: image.convert("P"), []),
    ],
)
def test_conversions_are_reported(tmp_path: Path, change: Any, said: list[str]) -> None:
    plain, _ = read_figure(saved(tmp_path, drawn()))
    pixels, notes = read_figure(saved(tmp_path, change(drawn()), "changed.png"))
    assert [note.split(":")[0] for note in notes] == said
    assert ((pixels > 100) == (plain > 100)).all(), "the same figure"


@pytest.mark.parametrize("ink", ["black", "white"])
def test_transparent_images_get_a_contrasting_background(tmp_path: Path, ink: str) -> None:
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    image.paste(Image.new("RGBA", (28, 28), ink), mask=drawn())
    pixels, notes = read_figure(saved(tmp_path, image))
    assert any(note.startswith("laid on") for note in notes)
    assert ((pixels > 100).numpy() == (np.asarray(drawn()) > 100)).all()


@pytest.mark.parametrize("side", [64, 200, 1000])
@pytest.mark.parametrize("shift", [-5, 20])
def test_a_figure_of_any_size_and_position_is_centred(tmp_path: Path, side: int, shift: int) -> None:
    path = saved(tmp_path, drawn(side, shift, size=side // 3), "large.jpg")
    pixels, notes = read_figure(path)
    assert pixels.shape == (28, 28) and "it was" in notes[-1]
    rows, columns = (pixels > 60).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == pytest.approx(20, abs=1)
    mass = pixels.float() / pixels.sum()
    for axis in (0, 1):
        assert float((mass.sum(dim=axis) * torch.arange(28.0)).sum()) == pytest.approx(13.5, abs=0.75)
    assert 3 <= int(columns.max() - columns.min()) + 1 <= 8, "it keeps its shape"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7 and so on", "is no image that can be read"),
        (b"\x89PNG\r\n\x1a\n cut off", "is no image that can be read"),
        (None, "there is no file"),
    ],
)
def test_a_file_that_is_not_an_image_gives_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "wrong.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_figure(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_blank_image_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is blank"):
        read_figure(saved(tmp_path, Image.new("RGB", (50, 50), "white")))


def test_a_truncated_image_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn(400), "cut.jpg")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="no image that can be read"):
        read_figure(path)


def test_a_canvas_keeps_all_its_figures_where_they_are(tmp_path: Path) -> None:
    canvas = Image.new("L", (64, 64), 0)
    for corner in ((3, 40), (30, 5)):
        canvas.paste(drawn(), corner)
    pixels, notes = read_canvas(saved(tmp_path, canvas), 64)
    assert notes == [] and np.array_equal(pixels.numpy(), np.asarray(canvas))

    ink = Image.eval(canvas.resize((256, 256), Image.Resampling.NEAREST), lambda value: 230 - value * 210 // 255)
    pixels, notes = read_canvas(saved(tmp_path, ink, "photo.png"), 64)
    assert [note.split(":")[0] for note in notes] == ["inverted", "scaled to 64x64"]
    assert ((pixels > 127).numpy() == (np.asarray(canvas) > 127)).mean() > 0.99
    assert pixels.median() == 0, "the paper's shade is gone"


def test_a_canvas_of_another_shape_is_fitted_in(tmp_path: Path) -> None:
    pixels, notes = read_canvas(saved(tmp_path, drawn(28)), 64)
    assert notes == ["laid in the middle of 64x64: it was 28x28"]
    assert np.array_equal(pixels[18:46, 18:46].numpy(), np.asarray(drawn(28)))
    wide = Image.new("L", (200, 50), 0)
    wide.paste(255, (20, 10, 40, 40))
    pixels, notes = read_canvas(saved(tmp_path, wide, "wide.png"), 64)
    assert notes == ["scaled to 64x16: it was 200x50"]
    assert pixels[:24].max() == 0 and pixels[40:].max() == 0 and pixels[24:40].max() > 200


def test_an_invalid_canvas_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is blank"):
        read_canvas(saved(tmp_path, Image.new("L", (64, 64), 9)), 64)
    with pytest.raises(ValueError, match="there is no file"):
        read_canvas(tmp_path / "nothing.png", 64)
