from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from studies.inference import disagreement_worker as worker
from studies.trial.instantiate import Parts


class Constant(LightningModule):
    """Says the same of every input.

    Args:
        output: of each sample.
    """

    def __init__(self, output: list[float]) -> None:
        super().__init__()
        self.output = torch.tensor(output)

    def forward(self, x: Tensor) -> Tensor:
        return self.output.expand(len(x), -1)


class Data(LightningDataModule):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.set = TensorDataset(x, y)

    def val_dataloader(self) -> Any:
        return DataLoader(self.set, 4)


class Spelled(Constant):
    """Answers in words, as the shipped GRU does."""

    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        return [{"answer": "ab" if self.output[0] > 0 else "ba", "probability": 0.5} for _ in inputs]


class Vocabulary:
    def decode(self, ids: list[int]) -> str:
        return "".join("ab"[index] for index in ids)


def compared(one: LightningModule, other: LightningModule, data: Data, picture: Path) -> dict[str, Any]:
    return worker._disagree(Parts(one, data), other, "val", ["one", "other"], picture)


def test_classes_with_images(tmp_path: Path) -> None:
    targets = torch.tensor([0, 1, 0, 0, 0, 1])
    data, picture = Data(torch.rand(6, 1, 8, 8), targets), tmp_path / "a.png"
    found = compared(Constant([2.0, 1.0]), Constant([1.0, 2.0]), data, picture)
    assert (found["samples"], found["disagreements"]) == (6, 6)
    assert found["right"] == {"both": 0, "a": 4, "b": 2, "neither": 0}
    assert found["classes"] == [
        {"name": "0", "samples": 4, "a": 1.0, "b": 0.0},
        {"name": "1", "samples": 2, "a": 0.0, "b": 1.0},
    ]
    assert picture.read_bytes().startswith(b"\x89PNG") and found["picture"] == str(picture)
    first = {"index": 0, "input": None, "truth": "0", "a": "0", "b": "1"}
    assert found["examples"][0] == first


def test_models_that_agree_have_no_picture(tmp_path: Path) -> None:
    found = compared(
        Constant([2.0, 1.0]), Constant([9.0, 1.0]), Data(torch.rand(3, 2), torch.ones(3).long()), tmp_path / "a"
    )
    assert found["disagreements"] == 0 and found["picture"] is None and not list(tmp_path.iterdir())


def test_numbers_that_are_furthest_apart_come_first(tmp_path: Path) -> None:
    class Doubled(Constant):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x[:, :1]

    data = Data(torch.arange(100.0).reshape(100, 1), torch.arange(100.0))
    found = compared(Doubled([0.0]), Constant([0.0]), data, tmp_path / "a.png")
    assert found["disagreements"] == 99 and found["right"] is None and found["classes"] == []
    assert len(found["examples"]) == worker.EXAMPLES
    assert found["examples"][0] == {"index": 99, "input": "99", "truth": 99.0, "a": 198.0, "b": 0.0}


def test_words(tmp_path: Path) -> None:
    data = Data(torch.tensor([[1, 0]] * 3), torch.tensor([[0, 1], [0, 1], [1, 1]]))
    data.vocabulary = Vocabulary()  # type: ignore[attr-defined]
    found = compared(Spelled([1.0]), Spelled([-1.0]), data, tmp_path / "a.png")
    assert found["right"] == {"both": 0, "a": 2, "b": 0, "neither": 1}
    assert found["examples"][0] == {"index": 0, "input": "ba", "truth": "ab", "a": "ab", "b": "ba"}


def test_what_cannot_be_compared_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no method answers"):
        compared(Constant([1.0, 2.0]), Constant([1.0]), Data(torch.rand(2, 2), torch.rand(2)), tmp_path / "a")
    with pytest.raises(ValueError, match="no val samples"):
        compared(Constant([1.0]), Constant([1.0]), Data(torch.rand(0, 2), torch.rand(0)), tmp_path / "a")
    assert "error" in worker.disagree({"other": {}})


def test_masks_disagree_by_their_share_of_pixels() -> None:
    one, other = {"mask": [[0, 1], [1, 1]], "answer": "1"}, {"mask": [[0, 0], [1, 1]], "answer": "1"}
    assert worker._apart(one, other) == 0.25 and worker._apart(one, one) == 0
