import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules.error_analysis import WORST_MISTAKES, _look
from lightning_modules.supervised import Supervised
from lightning_modules.tasks import Classification

Batch = tuple[Tensor, Tensor]


class Linear(Supervised):
    """The smallest classifier: one layer on 2x2 images."""

    def __init__(self, learning_rate: float = 0.1, class_names: list[str] | None = None) -> None:
        super().__init__(
            task=Classification(3, class_names),
            optimizer="sgd",
            learning_rate=learning_rate,
            weight_decay=0.0,
            schedule="constant",
        )
        self.save_hyperparameters(logger=False)
        self.layer = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


class Fixed(Linear):
    """Predicts the class given by the image's first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return 2.0 * nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float()


def batches(sizes: list[int]) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 1, 2, 2, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in sizes
    ]


def loader(data: list[Batch]) -> DataLoader:
    return DataLoader(data, batch_size=None)  # type: ignore[arg-type]


class Recorder(DummyLogger):
    """Records logged values."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({"step": step, **metrics})


def trainer(tmp_path: Path, **arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=Recorder(),
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **arguments,
    )


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


def test_training_metrics_are_means_over_the_steps_since_they_were_last_logged(tmp_path: Path) -> None:
    data = batches([4] * 6)
    module = Linear(learning_rate=1e-12)  # so small that the weights do not change
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(module(images), labels).item() for images, labels in data]
        correct = [(module(images).argmax(1) == labels).float().mean().item() for images, labels in data]

    run = trainer(tmp_path, max_epochs=1, log_every_n_steps=2)
    run.fit(module, loader(data))

    rows = run.logger.rows
    assert [row["step"] for row in rows] == [1, 3, 5]
    expected = [sum(losses[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert [row["train/loss"] for row in rows] == pytest.approx(expected, abs=1e-5)
    expected = [sum(correct[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert [row["train/accuracy"] for row in rows] == pytest.approx(expected)
    assert [row["train/learning_rate"] for row in rows] == pytest.approx([1e-12] * 3, abs=1e-15)


def test_training_sums_are_reset_in_each_epoch(tmp_path: Path) -> None:
    data = batches([4] * 3)
    module = Linear(learning_rate=1e-12)
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(module(images), labels).item() for images, labels in data]

    run = trainer(tmp_path, max_epochs=2, log_every_n_steps=2)
    run.fit(module, loader(data))

    # Steps 1 and 2; step 3 ends its epoch unlogged; step 4 is the first of the second epoch.
    expected = [sum(losses[:2]) / 2, losses[0], sum(losses[1:]) / 2]
    assert [row["train/loss"] for row in run.logger.rows] == pytest.approx(expected, abs=1e-5)


def test_accumulated_gradients_are_logged_once_per_optimizer_step(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1, log_every_n_steps=1, accumulate_grad_batches=2)
    run.fit(Linear(), loader(batches([4] * 6)))

    assert len([row for row in run.logger.rows if "train/loss" in row]) == 3


def test_accumulated_batches_are_all_in_the_logged_mean(tmp_path: Path) -> None:
    """No batch between two logged steps is lost, even if the first one ends at a logged step."""
    data = batches([4] * 8)
    module = Linear(learning_rate=1e-12)
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(module(images), labels).item() for images, labels in data]

    run = trainer(tmp_path, max_epochs=1, log_every_n_steps=2, accumulate_grad_batches=2)
    run.fit(module, loader(data))

    rows = [row["train/loss"] for row in run.logger.rows if "train/loss" in row]
    assert rows == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 4], abs=1e-5)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    images = torch.randn(90, 1, 2, 2)
    labels = images.flatten(1)[:, :3].argmax(1)
    module = Linear(learning_rate=0.5)
    before = nn.functional.cross_entropy(module(images), labels).item()

    trainer(tmp_path, max_epochs=20).fit(module, loader([(images, labels)]))

    assert nn.functional.cross_entropy(module(images), labels).item() < before / 2


def test_validation_and_test_weigh_every_sample_equally(tmp_path: Path) -> None:
    data = batches([5, 5, 1])  # a mean over batches would give the last sample five times its weight
    module = Linear()
    images, labels = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    with torch.no_grad():
        loss = nn.functional.cross_entropy(module(images), labels).item()
        accuracy = (module(images).argmax(1) == labels).float().mean().item()

    run = trainer(tmp_path)
    validated = run.validate(module, loader(data), verbose=False)[0]
    tested = run.test(module, loader(data), verbose=False)[0]

    assert validated == pytest.approx({"val/loss": loss, "val/accuracy": accuracy})
    assert tested == pytest.approx({"test/loss": loss, "test/accuracy": accuracy})


def test_a_second_pass_does_not_count_the_first(tmp_path: Path) -> None:
    data = batches([5, 3])
    run, module = trainer(tmp_path), Linear()
    first, second = (run.validate(module, loader(data), verbose=False) for _ in range(2))

    assert first == second


def digits(values: list[int]) -> Tensor:
    images = torch.zeros(len(values), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(values, dtype=torch.float32)
    return images


def test_confusion_matrix_has_the_truth_in_rows() -> None:
    data = [(digits([0, 1, 2]), torch.tensor([0, 0, 0])), (digits([2, 2]), torch.tensor([2, 1]))]
    matrix = Fixed(class_names=["a", "b", "c"]).pictures(data)["confusion_matrix"]

    assert matrix["counts"].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 1]]
    assert matrix["labels"] == ["a", "b", "c"]


def test_worst_mistakes_show_truth_prediction_and_probabilities() -> None:
    mistakes = Fixed().pictures([(digits([1, 2, 2]), torch.tensor([1, 0, 2]))])["worst_mistakes"]
    total = math.exp(2) + 2

    assert (mistakes["truth"], mistakes["predicted"]) == (["0"], ["2"])
    assert mistakes["truth_probability"] == pytest.approx([1 / total])
    assert mistakes["predicted_probability"] == pytest.approx([math.exp(2) / total])
    assert mistakes["images"].tolist() == [[[1, 0], [0, 0]]]  # stretched to 0..1


def test_worst_mistakes_are_bounded_and_the_worst_come_first() -> None:
    module = Linear()
    mistakes = module.pictures(batches([200, 200]))["worst_mistakes"]
    images, labels = (torch.cat(parts) for parts in zip(*batches([200, 200]), strict=True))
    with torch.no_grad():
        probability = module(images).softmax(1)
    wrong = probability.argmax(1) != labels
    expected = probability[wrong, labels[wrong]].sort().values[:WORST_MISTAKES]

    assert mistakes["truth_probability"] == pytest.approx(expected.tolist())
    assert mistakes["images"].shape == (WORST_MISTAKES, 2, 2)


def test_colour_images_are_shown_in_colour() -> None:
    image = torch.rand(1, 3, 2, 2)
    image[0, 0, 0, 0] = 2.0
    mistakes = Fixed().pictures([(image, torch.tensor([0]))])["worst_mistakes"]

    assert mistakes["images"].shape == (1, 2, 2, 3)
    assert 0 <= mistakes["images"].min() < mistakes["images"].max() <= 1


def test_a_faultless_classifier_has_no_mistakes_to_show() -> None:
    assert set(Fixed().pictures([(digits([1]), torch.tensor([1]))])) == {"confusion_matrix"}


def test_of_many_images_only_the_worst_stay_in_memory() -> None:
    module = Linear()
    seen = _look(module, module.task, batches([200] * 10))
    assert len(seen.targets) == 2000
    assert len(seen.mistakes) == WORST_MISTAKES and seen.points == []


def test_pictures_look_at_a_bounded_number_of_samples_and_restore_the_mode() -> None:
    def endless() -> Any:
        while True:
            yield digits([0] * 999), torch.zeros(999, dtype=torch.int64)

    module = Fixed().train()
    counts = module.pictures(endless())["confusion_matrix"]["counts"]

    assert 10_000 <= counts.sum() < 11_000
    assert module.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ["a", "b"]}, "class_names must hold 3 names"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Linear(**arguments)


def test_an_empty_share_of_a_batch_does_not_spoil_the_mean(tmp_path: Path) -> None:
    full = batches([4])
    run, module = trainer(tmp_path), Linear()

    with_empty = run.validate(module, loader([*full, *batches([0])]), verbose=False)

    assert with_empty == run.validate(module, loader(full), verbose=False)
