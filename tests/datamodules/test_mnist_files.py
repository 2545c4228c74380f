import gzip
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_mnist
from tiny_mnist import FILES, write

from datamodules import mnist_files
from datamodules.mnist_files import DataUnavailable, fetch

Source = Callable[[Path, Path], Path]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_mnist.use(monkeypatch)


def offer(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], calls: list[Path]) -> None:
    def source(raw: Path, folder: Path) -> Path:
        calls.append(folder)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    monkeypatch.setitem(mnist_files.SOURCES, "a test's source", source)


def test_verified_files_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write(tmp_path, FILES)
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    fetch(tmp_path)

    assert calls == []
    assert {path.name for path in raw.iterdir()} == set(FILES)


def test_missing_files_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    fetch(tmp_path)
    fetch(tmp_path)

    assert len(calls) == 1
    raw = tmp_path / "MNIST" / "raw"
    assert {name: (raw / name).read_bytes() for name in FILES} == FILES
    assert {path.name for path in raw.iterdir()} == {*FILES, ".lock"}  # no temporary files are left


def test_compressed_files_are_unpacked(tmp_path: Path) -> None:
    raw = write(tmp_path, {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()})
    fetch(tmp_path)

    assert {name: (raw / name).read_bytes() for name in FILES} == FILES


def test_checksums_are_cached_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, name, read = write(tmp_path, FILES), "t10k-labels-idx1-ubyte", []
    checksum = mnist_files._sha256
    monkeypatch.setattr(mnist_files, "_sha256", lambda path: read.append(path.name) or checksum(path))
    fetch(tmp_path)
    fetch(tmp_path)
    assert len(read) == 8, "files too new for reliable timestamps are read each time"

    monkeypatch.setattr(mnist_files, "SETTLED", -1)
    fetch(tmp_path)
    read.clear()
    fetch(tmp_path)
    assert read == []

    before = (raw / name).stat()
    (raw / name).write_bytes(FILES[name][:-1] + b"!")
    os.utime(raw / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    offer(monkeypatch, FILES, [])
    fetch(tmp_path)
    assert (raw / name).read_bytes() == FILES[name], "same size, same time of writing, and yet it was seen"

    (raw / mnist_files.CHECKED).write_text("[half a li")
    read.clear()
    fetch(tmp_path)
    assert sorted(read) == sorted(FILES)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"!"])
def test_a_corrupt_file_is_named_moved_aside_and_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    name = "t10k-labels-idx1-ubyte"
    raw = write(tmp_path, {**FILES, name: damage(FILES[name])})
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    with caplog.at_level(logging.WARNING):
        fetch(tmp_path)

    assert (raw / name).read_bytes() == FILES[name]
    assert (raw / f"{name}.corrupt").read_bytes() == damage(FILES[name])
    assert len(calls) == 1
    warnings = [record.getMessage() for record in caplog.records if "corrupt" in record.getMessage()]
    assert len(warnings) == 1 and name in warnings[0]


def test_a_failing_or_corrupt_source_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(raw: Path, folder: Path) -> Path:
        raise OSError("no route")

    monkeypatch.setitem(mnist_files.SOURCES, "broken", broken)
    monkeypatch.setitem(mnist_files.SOURCES, "lying", lambda raw, folder: folder)
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    fetch(tmp_path)

    assert len(calls) == 1


def test_no_working_source_gives_one_helpful_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "train-images-idx3-ubyte"
    calls: list[Path] = []
    offer(monkeypatch, {**FILES, name: b"not it"}, calls)
    with pytest.raises(DataUnavailable) as caught:
        fetch(tmp_path)

    message = str(caught.value)
    assert len(calls) == 1
    assert "\n" not in message
    for part in (name, "HARNESS_DATA", "a test's source", str(tmp_path / "MNIST" / "raw")):
        assert part in message
    raw = tmp_path / "MNIST" / "raw"
    assert {path.name for path in raw.iterdir()} == {*FILES, ".lock"} - {name}


def test_an_unwritable_folder_gives_one_helpful_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataUnavailable, match=r"cannot be written.*HARNESS_DATA") as caught:
        fetch(tmp_path / "file")

    assert "\n" not in str(caught.value)


def test_only_one_of_several_processes_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # flock works between open files, so threads show what processes would do.
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def come() -> None:
        together.wait()
        try:
            fetch(tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(calls) == 1
