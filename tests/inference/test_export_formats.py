import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from safetensors import safe_open
from torch import Tensor

from lightning_modules import CNN, MLP, GRUSeq2Seq
from studies.inference.export_formats import WRITERS, input_name, output_names

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # from torch, about its own cells and layouts
ARGUMENTS: dict[str, dict[str, Any]] = {
    "MLP": {"hidden_sizes": [4], "batch_norm": True, "input_shape": [5], "num_classes": 3},
    "CNN": {"width": 2, "depth": 2, "image_shape": [1, 8, 8]},
    "GRUSeq2Seq": {"hidden_size": 16, "vocab_size": 6, "max_length": 3, "characters": ["a", "b", "c"]},
}
INPUTS: dict[str, Callable[[int], Tensor]] = {
    "MLP": lambda rows: torch.randn(rows, 5),
    "CNN": lambda rows: torch.randn(rows, 1, 8, 8),
    "GRUSeq2Seq": lambda rows: torch.randint(3, 6, (rows, 3)),
}


@pytest.mark.parametrize("format", list(WRITERS))
@pytest.mark.parametrize(("cls", "input"), [(MLP, "inputs"), (CNN, "images"), (GRUSeq2Seq, "source")])
def test_each_format_reproduces_the_module(cls: type[LightningModule], input: str, format: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name = cls.__name__
    module, path = cls(**ARGUMENTS[name]).eval(), tmp_path / "file"
    said = {"class_path": f"lightning_modules.{name}", "init_args": json.dumps(ARGUMENTS[name])}
    with torch.no_grad():
        if cls is GRUSeq2Seq:
            for weight in module.parameters():
                weight *= 6  # else its output does not depend on its input
        written = WRITERS[format](module, INPUTS[name](2), said, path)
        batches = [INPUTS[name](rows) for rows in (1, 2, 9)]
        if cls is GRUSeq2Seq:
            assert written.variable == {0: "batch", 1: "length"}
            batches += [batch[:, :length] for batch in batches for length in (1, 2)]
        else:
            assert written.variable == {0: "batch"}
        for batch in batches:
            (output,) = written.ask(batch)
            torch.testing.assert_close(output, module(batch), atol=1e-6, rtol=1e-5)
        assert len(module(batches[2]).unique(dim=0)) > 2
    assert input_name(module) == input
    assert [file.name for file in tmp_path.iterdir()] == ["file"], "one file"
    assert written.at_most == ({"length": 3} if cls is GRUSeq2Seq and format != "safetensors" else {})
    assert _said_by(path, format) == said
    assert str(Path(__file__).parents[2]).encode() not in _content(path), "no path of this machine"


def _said_by(path: Path, format: str) -> dict[str, str]:
    if format == "onnx":
        import onnx

        return {item.key: item.value for item in onnx.load(path).metadata_props}
    if format == "pt2":
        said = {"class_path": "", "init_args": ""}
        with open(path, "rb") as file:
            torch.export.load(file, extra_files=said)
        return said
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def _content(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def test_a_module_with_a_constant_batch_size_is_rejected(tmp_path: Path) -> None:
    class Stubborn(LightningModule):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([row.sum() for row in x])

    with pytest.raises(ValueError, match=r"Stubborn.forward treats its batch size as a constant \(2\)"):
        WRITERS["pt2"](Stubborn(), torch.zeros(2, 3), {}, tmp_path / "file")


def test_outputs_are_named() -> None:
    one = torch.zeros(1)
    assert output_names(one) == ["output"]
    assert output_names((one, one)) == ["output_1", "output_2"]
    assert output_names({"mask": one, "boxes": one}) == ["mask", "boxes"]
