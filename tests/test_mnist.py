import gzip
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import ModelCheckpoint

from datamodules import mnist
from datamodules.mnist import MNIST, DataUnavailable, augmented, fetch, normalized
from lightning_modules import MLP

TRAIN, TEST = 40, 12
Source = Callable[[Path, Path], Path]


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


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST consists of the tiny files, and only what a test offers is a source of them."""
    monkeypatch.setattr(mnist, "TRAINING_IMAGES", TRAIN)
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()})
    monkeypatch.setattr(mnist, "SOURCES", {".gz files in that folder": mnist._unpack})


def offer(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], calls: list[Path]) -> None:
    def source(raw: Path, folder: Path) -> Path:
        calls.append(folder)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder

    monkeypatch.setitem(mnist.SOURCES, "a test's source", source)


def write(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def ready(root: Path, stage: str = "fit", **arguments: Any) -> MNIST:
    if not (root / "MNIST").exists():
        write(root, FILES)
    arguments = {"batch_size": 8, "validation_size": 10, **arguments}
    data = MNIST(data_dir=str(root), **arguments)
    data.prepare_data()
    data.setup(stage)
    return data


# The data module


def test_batches_are_ready_to_use(tmp_path: Path) -> None:
    data = ready(tmp_path)
    batches = list(data.train_dataloader())

    assert len(batches) == (TRAIN - 10) // 8  # the incomplete one is left out
    for images, labels in batches:
        assert (images.shape, images.dtype) == ((8, 1, 28, 28), torch.float32)
        assert (labels.shape, labels.dtype) == ((8,), torch.int64)
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 10


def test_normalized_is_the_usual_formula() -> None:
    pixels = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    images, labels = normalized(pixels, torch.tensor([3]), torch.Generator())

    expected = (torch.tensor([[[[0.0, 1.0], [0.2, 0.4]]]]) - 0.1307) / 0.3081
    assert torch.allclose(images, expected, atol=1e-6)
    assert labels.tolist() == [3]


def test_validation_is_carved_from_train_by_split_seed_alone(tmp_path: Path) -> None:
    def held_out(**arguments: Any) -> set[bytes]:
        data = ready(tmp_path, **arguments)
        assert data.training_set is not None and data.train is not None and data.validation is not None
        kept = {image.numpy().tobytes() for image in data.training_set[0][data.train]}
        held = {image.numpy().tobytes() for image in data.training_set[0][data.validation]}
        assert len(kept | held) == TRAIN and len(kept & held) == 0
        return held

    assert held_out(seed=0) == held_out(seed=1) != held_out(split_seed=1)


def test_every_image_keeps_its_label(tmp_path: Path) -> None:
    data = ready(tmp_path)
    raw = FILES["train-images-idx3-ubyte"][16:]
    label_of = {raw[index * 784 : (index + 1) * 784]: index % 10 for index in range(TRAIN)}

    assert data.training_set is not None
    images, labels = data.training_set
    assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for pixels, targets in loader:
            raw_pixels = (pixels * 0.3081 + 0.1307).mul(255).round().to(torch.uint8)
            assert [label_of[image.numpy().tobytes()] for image in raw_pixels] == targets.tolist()


def test_order_depends_on_seed_and_epoch(tmp_path: Path) -> None:
    def labels(seed: int, epoch: int) -> list[int]:
        loader = ready(tmp_path, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([labels for _, labels in loader]).tolist()

    assert labels(1, 2) == labels(1, 2)
    assert labels(1, 2) != labels(1, 3)
    assert labels(1, 2) != labels(2, 2)


def test_test_set_is_the_official_one_in_its_order(tmp_path: Path) -> None:
    data = ready(tmp_path, stage="test")
    labels = torch.cat([labels for _, labels in data.test_dataloader()])

    assert labels.tolist() == [index % 10 for index in range(TEST)]
    assert data.training_set is None  # not read for nothing


def test_setup_twice_changes_nothing(tmp_path: Path) -> None:
    data = ready(tmp_path)
    before = data.training_set
    data.prepare_data()
    data.setup("fit")

    assert data.training_set is before


def test_sizes_say_what_a_model_needs(tmp_path: Path) -> None:
    assert ready(tmp_path).sizes == {
        "image_shape": [1, 28, 28],
        "input_shape": [1, 28, 28],
        "num_classes": 10,
        "class_names": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be between 1 and the 30 training images, but got batch_size=0"),
        ({"batch_size": 31}, "batch_size must be between 1 and the 30 training images"),
        ({"validation_size": 0}, "validation_size must be between 1 and 39, but got validation_size=0"),
        ({"validation_size": 40}, "but got validation_size=40"),
        ({"seed": -1}, "seed must be at least 0, but got seed=-1"),
        ({"split_seed": -1}, "split_seed must be at least 0, but got split_seed=-1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MNIST(**{"validation_size": 10, "batch_size": 8, **arguments})


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_data_folder_is_the_argument_or_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "environment"))
    data = MNIST(validation_size=10, batch_size=1, data_dir=str(tmp_path / "argument"))
    default = MNIST(validation_size=10, batch_size=1)

    assert {"argument": data, "environment": default}[named_by].root == tmp_path / named_by


def test_training_resumed_within_an_epoch_ends_with_the_same_weights(tmp_path: Path) -> None:
    def fit(folder: str, resume: Path | None = None) -> torch.Tensor:
        torch.manual_seed(0)
        model = MLP(hidden_sizes=[])
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            max_epochs=3,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=10, save_top_k=-1)],
        )
        trainer.fit(model, ready(tmp_path, batch_size=4, augment=True), ckpt_path=resume, weights_only=True)
        assert trainer.global_step == 21
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    whole = fit("whole")
    resumed = fit("resumed", resume=tmp_path / "whole" / "step=10.ckpt")  # the third of seven batches

    assert torch.equal(whole, resumed)


# Augmentation


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_augmented_images_stay_in_range_and_follow_their_generator(seed: int) -> None:
    pixels = torch.randint(256, (6, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6)
    first, kept = augmented(pixels, labels, torch.Generator().manual_seed(seed))
    again, _ = augmented(pixels, labels, torch.Generator().manual_seed(seed))
    plain, _ = normalized(torch.tensor([[[0, 255]]], dtype=torch.uint8), labels, torch.Generator())

    assert (first.shape, first.dtype) == ((6, 1, 28, 28), torch.float32)
    assert torch.equal(first, again)
    assert torch.equal(kept, labels)
    assert plain.min() - 1e-4 <= first.min() and first.max() <= plain.max() + 1e-4


def test_augmentation_moves_each_image_by_a_few_pixels_at_most() -> None:
    dot = torch.zeros(500, 28, 28, dtype=torch.uint8)
    dot[:, 13:15, 13:15] = 255  # in the middle, so that turning and scaling leave it there
    images, _ = augmented(dot, torch.zeros(500), torch.Generator().manual_seed(0))
    weight = (images[:, 0] - images.min()).clamp(min=0)
    places = torch.arange(28.0)
    mass = weight.sum(dim=(1, 2))
    down = (weight.sum(dim=2) @ places) / mass - 13.5
    right = (weight.sum(dim=1) @ places) / mass - 13.5

    for shift in (down, right):
        assert shift.abs().max() < 2.6  # 2 pixels, scaled by up to 1 / 0.9, and interpolated
        assert shift.abs().max() > 1.5
        assert abs(shift.mean()) < 0.2


# Fetching


def test_genuine_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert {path.name for path in raw.iterdir()} == {*FILES, ".lock"}  # nothing half-done is left


def test_compressed_files_are_unpacked(tmp_path: Path) -> None:
    raw = write(tmp_path, {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()})
    fetch(tmp_path)

    assert {name: (raw / name).read_bytes() for name in FILES} == FILES


def test_a_file_is_read_for_its_checksum_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, name, read = write(tmp_path, FILES), "t10k-labels-idx1-ubyte", []
    checksum = mnist._sha256
    monkeypatch.setattr(mnist, "_sha256", lambda path: read.append(path.name) or checksum(path))
    fetch(tmp_path)
    fetch(tmp_path)
    assert len(read) == 8, "files so new that their times may not tell are read each time"

    monkeypatch.setattr(mnist, "SETTLED", -1)
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

    (raw / mnist.CHECKED).write_text("[half a li")
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


def test_a_source_that_fails_or_lies_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(raw: Path, folder: Path) -> Path:
        raise OSError("no route")

    monkeypatch.setitem(mnist.SOURCES, "broken", broken)
    monkeypatch.setitem(mnist.SOURCES, "lying", lambda raw, folder: folder)
    calls: list[Path] = []
    offer(monkeypatch, FILES, calls)
    fetch(tmp_path)

    assert len(calls) == 1


def test_nothing_to_be_had_is_one_line_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_folder_that_cannot_be_written_is_one_line_that_helps(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataUnavailable, match=r"cannot be written.*HARNESS_DATA") as caught:
        fetch(tmp_path / "file")

    assert "\n" not in str(caught.value)


def test_of_several_that_come_at_once_one_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_image_file_that_was_never_fetched_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="prepare_data"):
        MNIST(validation_size=10, batch_size=1, data_dir=str(tmp_path)).setup("fit")
