"""A fake MNIST of a few random images, for tests that must not download the real one."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from datamodules import mnist, mnist_files

TRAIN, TEST = 40, 12


def idx_files() -> dict[str, bytes]:
    """The four files in IDX format, with a few random images."""
    random = np.random.default_rng(0)
    files = {}
    for split, count in (("train", TRAIN), ("t10k", TEST)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        header = np.array([0x0803, count, 28, 28], dtype=">i4").tobytes()
        files[f"{split}-images-idx3-ubyte"] = header + images.tobytes()
        header = np.array([0x0801, count], dtype=">i4").tobytes()
        files[f"{split}-labels-idx1-ubyte"] = header + labels.tobytes()
    return files


FILES = idx_files()


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces MNIST by the tiny files; the only source is what a test provides."""
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(mnist, "TRAINING_IMAGES", TRAIN)
    monkeypatch.setattr(mnist_files, "SHA256", checksums)
    monkeypatch.setattr(mnist_files, "SOURCES", {".gz files in that folder": mnist_files._unpack})


def write(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw
