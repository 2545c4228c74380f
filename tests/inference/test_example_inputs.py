from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningDataModule

from datamodules import Tabular, WordReversal
from studies.inference.example_inputs import example_of, validation_inputs, variable_dimensions


def test_an_example_always_has_two_rows() -> None:
    assert example_of(torch.tensor([[1], [2], [3]])).tolist() == [[1], [2]]
    assert example_of(torch.tensor([[1]])).tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (torch.zeros(2, 5), {0: "batch"}),
        (torch.zeros(2, 3, 28, 28), {0: "batch"}),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), {0: "batch"}),
        (torch.zeros(2, 5, dtype=torch.int64), {0: "batch", 1: "length"}),
    ],
)
def test_batch_and_sequence_length_are_variable(example: torch.Tensor, names: dict[int, str]) -> None:
    assert variable_dimensions(example) == names


def test_inputs_are_the_first_of_the_validation_set(tmp_path: Path) -> None:
    assert validation_inputs(Tabular(dataset="moons")).shape == (200, 2)
    (tmp_path / "words.txt").write_text("\n".join(["cat", "mouse", "bird", "of", "tree"]))
    words = WordReversal(1, min_length=1, validation_size=2, test_size=1, words_file=str(tmp_path / "words.txt"))
    assert validation_inputs(words).shape == (2, 12)


def test_non_tensor_inputs_are_reported() -> None:
    class Pairs(LightningDataModule):
        def val_dataloader(self) -> list[tuple[dict[str, int], int]]:
            return [({"a": 1}, 2)]

    with pytest.raises(ValueError, match="Pairs's inputs must be one tensor, but got dict"):
        validation_inputs(Pairs())


def test_the_first_of_several_loaders_is_taken() -> None:
    class Several(Tabular):
        def val_dataloader(self) -> Any:
            return {"one": super().val_dataloader(), "other": None}

    assert validation_inputs(Several(dataset="moons")).shape == (200, 2)
