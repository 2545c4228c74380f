from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from tiny_models import trained
from torch import Tensor

from lightning_modules import MLP
from studies.config.yaml_io import dump_yaml, load_yaml
from studies.inference.export_formats import Written
from studies.inference.export_worker import Differs, compared, export, how_to_build
from studies.trial.instantiate import build


def with_model(payload: dict[str, Any], class_path: str) -> str:
    sections = load_yaml(payload["experiment"])
    return dump_yaml({**sections, "model": {"class_path": class_path, "init_args": {}}})


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "exported")


def test_the_exported_file_is_described_and_checked(table: dict[str, Any], path: str) -> None:
    answer = export({**table, "format": "pt2", "path": path})
    assert answer["class_path"] == "lightning_modules.MLP" and answer["bytes"] == Path(path).stat().st_size
    assert answer["inputs"] == [{"name": "inputs", "dtype": "float32", "shape": ["batch", 2]}]
    assert answer["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 1]}]
    check = answer["check"]
    assert (check["inputs"], check["batches"], check["lengths"]) == (200, [1, 7, 200], None)
    assert 0 <= check["largest_difference"] <= check["tolerance"] and check["tolerance"] >= 1e-4


def test_words_are_checked_at_each_length(words: dict[str, Any], path: str) -> None:
    answer = export({**words, "format": "safetensors", "path": path})
    assert answer["inputs"] == [{"name": "source", "dtype": "int64", "shape": ["batch", "length"]}]
    assert answer["outputs"] == [{"name": "output", "dtype": "int64", "shape": ["batch", 13]}]
    assert answer["check"]["lengths"] == [1, 12]
    assert answer["check"]["tolerance"] == 0, "ids must be equal"


def test_a_model_that_cannot_be_restored_is_bad_input(table: dict[str, Any], path: str) -> None:
    experiment = with_model(table, "lightning_modules.MPL")
    assert "has no MPL; did you mean" in export({**table, "experiment": experiment, "path": path})["error"]


def test_a_custom_module_without_sizes_or_inputs(tmp_path: Path, path: str) -> None:
    sections = {"class_path": "toy.Toy", "init_args": {}}, {"class_path": "toy.ToyData", "init_args": {}}
    module = build({"model": sections[0], "data": sections[1], "trainer": {}}, 0).module
    answer = export({**trained(tmp_path, "ee05", module, *sections), "format": "pt2", "path": path})
    assert answer["inputs"][0]["name"] == "x" and answer["outputs"][0]["shape"] == ["batch", 1]


class Branches(LightningModule):
    """Cannot be exported: its control flow depends on data."""

    def __init__(self, input_shape: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if x.sum() > 0 else x


def test_a_module_that_cannot_be_exported_is_one_line(
    table: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    torch.save({"state_dict": Branches([2]).state_dict()}, table["checkpoint"])
    experiment = with_model(table, "test_export_worker.Branches")
    failed = export({**table, "experiment": experiment, "format": "pt2", "path": path})["failed"]
    assert "data-dependent" in failed and "\n" not in failed and len(failed) <= 500


def written(change: Any, exact: bool = False) -> Written:
    return Written(lambda inputs: [change(inputs)], {0: "batch"}, {}, exact)


def test_a_difference_is_reported() -> None:
    module = MLP(hidden_sizes=[], input_shape=[2], num_classes=2).eval()
    inputs = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    with torch.no_grad():
        assert compared(module, written(module), inputs)["largest_difference"] == 0
        near = compared(module, written(lambda x: module(x) + 2e-5), inputs)
        assert near["largest_difference"] == pytest.approx(2e-5, rel=0.1) and near["batches"] == [1, 2]
        for change, exact, said in (
            (lambda x: module(x) + 0.1, False, r"for inputs \(1, 2\) the file differs from the model by 0.1"),
            (lambda x: module(x) + 2e-5, True, "tolerance 0e"),
            (lambda x: module(x) * float("nan"), False, "by nan"),
            (lambda x: module(x)[:, :1], False, r"gives torch.float32 \(1, 1\), but the model torch.float32 \(1, 2\)"),
        ):
            with pytest.raises(Differs, match=said):
                compared(module, written(change, exact), inputs)


def test_how_a_module_is_built_includes_the_data_s_sizes() -> None:
    section = {"class_path": "lightning_modules.MLP", "init_args": {"hidden_sizes": [4]}}
    said = how_to_build(section, {"num_classes": 3, "vocab_size": 29})
    assert said == {"class_path": "lightning_modules.MLP", "init_args": '{"hidden_sizes": [4], "num_classes": 3}'}
