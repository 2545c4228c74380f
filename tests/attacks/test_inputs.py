"""Inputs of strangers: small files that would become large, formats nobody asked for, numbers that are none."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.image_files import ENOUGH, LARGEST, read_canvas, read_figure
from datamodules.tabular import _read_csv


def png(width: int, height: int, rows: int = 1) -> bytes:
    """A PNG of this size, whose rows are all the same; the first `rows` of them are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + b"\xff" * (width // 2) + b"\0" * (width - width // 2)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (LARGEST + 1, 1), (1, 2**31 - 1), (100_000, 100_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(min(size[0], 1000), 1)[:16] + struct.pack(">II", *size) + png(1000, 1)[24:])
    header = path.read_bytes()
    path.write_bytes(header[:29] + struct.pack(">I", zlib.crc32(header[12:29])) + header[33:])
    with pytest.raises(ValueError, match=r"bomb\.png is too large: "):
        read_figure(path)


@pytest.mark.parametrize("read", [read_figure, lambda path: read_canvas(path, 56)])
def test_a_large_image_takes_memory_for_its_pixels_alone(tmp_path: Path, read: object) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png(6000, 6000, rows=6000))
    assert path.stat().st_size < 500_000
    tracemalloc.start()  # NumPy's arrays; the decoder's bytes are 36 MB
    pixels, _ = read(path)  # type: ignore[operator]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.shape in ((28, 28), (56, 56))
    assert peak < 8 * ENOUGH**2, "images are scaled before anything is done to them"


@pytest.mark.parametrize(
    ("kind", "is_read"), [("PNG", True), ("JPEG", True), ("WEBP", True), ("GIF", True), ("BMP", True)]
)
def test_the_formats_that_are_documented_are_read(tmp_path: Path, kind: str, is_read: bool) -> None:
    drawing = Image.fromarray(np.eye(28, dtype=np.uint8) * 255)
    drawing.save(tmp_path / "image", kind)
    assert read_figure(tmp_path / "image")[0].shape == (28, 28)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "EPS", "PDF"])
def test_other_formats_are_not(tmp_path: Path, kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(content, kind)
    (tmp_path / "image.png").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="is no image that can be read"):
        read_figure(tmp_path / "image.png")


def table(folder: Path, content: bytes) -> list[tuple[int, list[float]]]:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return list(_read_csv(path, ["x"]))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert table(tmp_path, b"\xef\xbb\xbfx,y\r\n1.5,2\r\n") == [(2, [1.5])]


@pytest.mark.parametrize("number", ["1e300", "-1e39", "inf", "-inf", "nan", "1e999", "0x10", "", "1,5e3"])
def test_numbers_that_a_float32_cannot_hold_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(ValueError, match=r"rows\.csv:2: x must be a finite number, but got"):
        table(tmp_path, f'y,x\n0,"{number}"\n'.encode())


@pytest.mark.parametrize(
    "content", [b"x\n\xff\xfe\n", b"\xff\xfex\n1\n", b'x\n"' + b"a" * 200_000 + b'"\n', b"", b"x\n"]
)
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"rows\.csv") as caught:
        table(tmp_path, content)
    assert "\n" not in str(caught.value)
