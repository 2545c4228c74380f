from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from studies.trial.reading_cache import KEPT, ReadingCache

DATA = {"data": {"class_path": "toy.ToyData", "init_args": {}}, "model": {"class_path": "toy.Toy"}}


class OfFiles(Dataset[bytes]):
    def __init__(self, files: list[Path]) -> None:
        self.files = [(str(path), 0) for path in files]
        self.drawn = 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> bytes:
        self.drawn += 1
        return Path(self.files[index][0]).read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "mlruns").mkdir()
    paths = [tmp_path / f"{number}.txt" for number in range(5)]
    for path in paths:
        path.write_text(path.name)
    return paths


def read(files: list[Path], sections: dict[str, Any] = DATA, seed: int = 0) -> tuple[int, bytes]:
    """How many samples were drawn, and the digest."""
    dataset = OfFiles(files)
    folder = files[0].parent / "mlruns" / "data"
    reading = ReadingCache(folder, sections, seed, []).read(dataset)
    assert reading.fingerprinted == len(dataset) and len(reading.inputs) == len(dataset)
    return dataset.drawn, reading.digest


def test_the_same_files_are_read_once(files: list[Path]) -> None:
    drawn, digest = read(files)
    assert drawn >= 5 and read(files) == (0, digest)
    assert read(files, seed=1)[0] > 0
    assert read(files, {**DATA, "data": {**DATA["data"], "init_args": {"size": 3}}})[0] > 0
    assert read(files[:4])[0] > 0


def test_a_changed_file_is_read_again(files: list[Path]) -> None:
    _, digest = read(files)
    status = files[3].stat()
    files[3].write_text("X.txt")  # of the same size
    os.utime(files[3], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    drawn, other = read(files)
    assert drawn > 0 and other != digest


def test_what_is_kept_may_be_broken(files: list[Path]) -> None:
    _, digest = read(files)
    (kept,) = (files[0].parent / "mlruns" / "data").iterdir()
    for content in (b"", b"PK", kept.read_bytes()[:100]):
        kept.write_bytes(content)
        assert read(files)[1] == digest
    np.savez(kept, places=np.array([9]), inputs=np.zeros(1, np.uint64), digest=np.zeros(32, np.uint8), count=1)
    assert read(files)[1] == digest, "it is of another data set"


def test_a_data_set_without_files_is_read_each_time(files: list[Path], tmp_path: Path) -> None:
    dataset = OfFiles(files)
    dataset.names, dataset.files = "no file", []  # type: ignore[attr-defined]
    cache = ReadingCache(tmp_path / "mlruns" / "data", DATA, 0, [])
    assert cache._path(dataset) is None
    assert ReadingCache(tmp_path / "absent" / "data", DATA, 0, [])._path(OfFiles(files)) is None, "nothing is created"
    assert not (tmp_path / "absent").exists()


def test_few_are_kept(files: list[Path]) -> None:
    for seed in range(KEPT + 3):
        read(files, seed=seed)
    assert len(list((files[0].parent / "mlruns" / "data").iterdir())) == KEPT
