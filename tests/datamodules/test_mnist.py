from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import tiny_mnist
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_mnist import FILES, TEST, TRAIN, write

from datamodules.mnist import MNIST, DataUnavailable, augmented, displacements, normalized
from lightning_modules import MLP


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_mnist.use(monkeypatch)


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

    assert len(batches) == (TRAIN - 10) // 8  # without the incomplete one
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
    assert data.training_set is None  # not read unnecessarily


def test_setup_twice_changes_nothing(tmp_path: Path) -> None:
    data = ready(tmp_path)
    before = data.training_set
    data.prepare_data()
    data.setup("fit")

    assert data.training_set is before


def test_sizes_are_what_a_model_needs(tmp_path: Path) -> None:
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
        ({"elastic": 1.0}, r"set augment to true, but got augment=False elastic=1\.0"),
        ({"elastic": float("inf"), "augment": True}, "elastic must be a finite number of at least 0"),
        ({"seed": -1}, "seed must be at least 0, but got seed=-1"),
        ({"split_seed": -1}, "split_seed must be at least 0, but got split_seed=-1"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MNIST(**{"validation_size": 10, "batch_size": 8, **arguments})


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_the_data_folder_is_from_the_argument_or_the_environment(
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
    dot[:, 13:15, 13:15] = 255  # in the middle, unaffected by rotation and scaling
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


def test_a_missing_image_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="prepare_data"):
        MNIST(validation_size=10, batch_size=1, data_dir=str(tmp_path)).setup("fit")


def test_elastic_displacements_are_smooth_and_as_large_as_asked_for() -> None:
    pixels = displacements(2000, 28, 20, std=1.5, generator=torch.Generator().manual_seed(0)) * torch.tensor([10, 14])
    assert pixels.shape == (2000, 28, 20, 2)
    assert float(pixels.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(pixels.square().mean().sqrt()) == pytest.approx(1.5, rel=0.02)  # in pixels, in both directions
    assert pixels.diff(dim=1).abs().mean() < 0.5  # from one pixel to the next
    x, y = pixels[:, 14, 10].T
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.1


def test_elastic_distorts_an_image_and_no_elastic_draws_nothing() -> None:
    pixels, labels = torch.randint(256, (4, 28, 28), dtype=torch.uint8), torch.zeros(4)
    plain, same, distorted = (
        augmented(pixels, labels, torch.Generator().manual_seed(1), elastic)[0] for elastic in (0.0, 0.0, 1.0)
    )
    assert torch.equal(plain, same) and not torch.equal(plain, distorted)
