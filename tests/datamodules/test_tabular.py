from typing import Any

import pytest
import torch

from datamodules import Tabular
from datamodules.tabular import SOURCES

SIZES = {"diabetes": (442, 10, None), "breast_cancer": (569, 30, 2), "digits": (1797, 64, 10)}
SIZES |= dict.fromkeys(("moons", "circles", "blobs"), (1000, 2, 2))


def ready(**arguments: Any) -> Tabular:
    data = Tabular(**arguments)
    data.setup("fit")
    return data


@pytest.mark.parametrize("dataset", SOURCES)
def test_every_row_is_in_one_part(dataset: str) -> None:
    rows, features, classes = SIZES[dataset]
    data = ready(dataset=dataset)
    counts = [len(targets) for _, targets in data.parts.values()]

    assert sum(counts) == rows
    assert counts == pytest.approx([0.6 * rows, 0.2 * rows, 0.2 * rows], abs=2)
    assert data.sizes["input_shape"] == [features] and data.sizes["num_classes"] == classes
    assert len(data.feature_names) == features
    inputs, targets = next(iter(data.train_dataloader()))
    assert inputs.shape == (32, features) and inputs.dtype == torch.float32
    assert targets.dtype == (torch.float32 if classes is None else torch.int64)
    if classes:
        counted = [targets.bincount(minlength=classes) for _, targets in data.parts.values()]
        for of_part in counted:
            expected = sum(counted) * (of_part.sum() / rows)
            assert (of_part - expected).abs().max() < 1.5, "each part has its share of the classes"


def test_rows_of_the_parts_differ() -> None:
    parts = ready(dataset="breast_cancer").parts
    seen = [{tuple(row) for row in inputs.tolist()} for inputs, _ in parts.values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_means_and_scales_are_of_the_training_rows() -> None:
    data = ready(dataset="diabetes")
    inputs, targets = data.parts["train"]
    standardized = (inputs - torch.tensor(data.sizes["input_mean"])) / torch.tensor(data.sizes["input_scale"])
    assert torch.allclose(standardized.mean(dim=0), torch.zeros(10), atol=1e-5)
    assert torch.allclose(standardized.std(dim=0, correction=0), torch.ones(10), atol=1e-5)
    assert data.sizes["target_mean"] == pytest.approx(targets.mean().item())
    assert min(ready(dataset="digits").sizes["input_scale"]) > 0, "pixels that are always empty"


def test_split_and_order_have_separate_seeds() -> None:
    def first(**seeds: int) -> torch.Tensor:
        return next(iter(ready(dataset="digits", **seeds).train_dataloader()))[0]

    assert torch.equal(first(), first())
    assert not torch.equal(first(), first(seed=1))
    one, other = ready(dataset="moons"), ready(dataset="moons", seed=1)
    assert torch.equal(one.parts["test"][0], other.parts["test"][0])
    assert not torch.equal(one.parts["test"][0], ready(dataset="moons", split_seed=1).parts["test"][0])


def test_a_batch_is_at_most_the_whole_set() -> None:
    (batch,) = ready(dataset="diabetes", batch_size=10_000).train_dataloader()
    assert len(batch[0]) == len(ready(dataset="diabetes").parts["train"][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "iris"}, "dataset must be one of diabetes, breast_cancer.*but got dataset='iris'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"noise": -0.1}, "noise must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tabular(**arguments)
