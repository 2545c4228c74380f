"""Writes a trained model to a file and verifies the file. Runs in a warm trial process, because it needs torch."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils._pytree import tree_leaves

from studies.common.class_paths import import_class, parameters_of
from studies.config.yaml_io import load_yaml
from studies.inference.example_inputs import example_of, validation_inputs
from studies.inference.export_formats import WRITERS, Written, input_name, output_names
from studies.inference.predict_worker import restore

TOLERANCE = 1e-4  # relative to max(largest output, 1)
FEW = 7  # rows of a small batch


class Differs(Exception):
    """The file's outputs differ from the model's."""


def export(payload: dict[str, Any]) -> dict[str, Any]:
    """Writes a model.

    Args:
        payload: `experiment` (its sections), `seed`, `checkpoint` (path), `format` (see export_formats.WRITERS),
            `path` (to write).

    Returns:
        `class_path`, `bytes`, `inputs` and `outputs` (each a list of `name`, `dtype`, `shape`; variable sizes
        are names), `at_most` (name -> largest size) and `check`, see `compared`; or, in one line, `error`
        (the model cannot be restored) or `failed` (it cannot be written, or differs).
    """
    try:
        module, datamodule = restore(payload)
        inputs = validation_inputs(datamodule)
    except Exception as error:
        return {"error": _in_one_line(error)}
    try:
        with torch.no_grad():
            return _export(module, datamodule, inputs, payload)
    except Exception as error:  # user code may raise anything
        return {"failed": _in_one_line(error)}


def _export(
    module: LightningModule, datamodule: LightningDataModule, inputs: Tensor, payload: dict[str, Any]
) -> dict[str, Any]:
    path, example = Path(payload["path"]), example_of(inputs)
    said = how_to_build(load_yaml(payload["experiment"])["model"], getattr(datamodule, "sizes", {}))
    written = WRITERS[payload["format"]](module, example, said, path)
    check = compared(module, written, inputs)
    outputs = module(example)
    shapes = [_names(example, written.variable)]
    return {
        "class_path": said["class_path"],
        "bytes": path.stat().st_size,
        "inputs": _described([input_name(module)], [example], shapes),
        "outputs": _described(output_names(outputs), tree_leaves(outputs), _output_shapes(module, example, written)),
        "at_most": written.at_most,
        "check": check,
    }


def how_to_build(section: dict[str, Any], sizes: dict[str, Any]) -> dict[str, str]:
    """`class_path` and, as JSON, `init_args` of a module, including the data-derived sizes that it accepts."""
    taken = parameters_of(import_class(section["class_path"])) & set(sizes)
    init_args = {**section.get("init_args", {}), **{name: sizes[name] for name in sorted(taken)}}
    return {"class_path": section["class_path"], "init_args": json.dumps(init_args, default=str)}


def compared(module: LightningModule, written: Written, inputs: Tensor) -> dict[str, Any]:
    """Compares the outputs of the model and of the file.

    Args:
        inputs: real inputs (B, ...), used one, a few, and all at a time; if the length is variable, cut to each length.

    Returns:
        `inputs` (their number), `batches` (sizes), `lengths` (shortest and longest, or None),
        `largest_difference` and `tolerance`, which is 0 for ids and for rebuilt modules.

    Raises:
        Differs: the outputs differ; in one line.
    """
    batches = [inputs[:rows] for rows in sorted({1, min(FEW, len(inputs)), len(inputs)})]
    lengths = None
    if "length" in written.variable.values():
        lengths = [1, inputs.shape[1]]
        batches += [inputs[:FEW, :length] for length in range(1, inputs.shape[1])]
    largest = tolerance = 0.0
    for batch in batches:
        for truth, said in zip(tree_leaves(module(batch)), written.ask(batch), strict=True):
            where = f"for inputs {tuple(batch.shape)}"
            if (truth.shape, truth.dtype) != (said.shape, said.dtype):
                kinds = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (said, truth)]
                raise Differs(f"{where} the file gives {kinds[0]}, but the model {kinds[1]}")
            allowed = 0.0
            if truth.is_floating_point() and not written.exact:
                allowed = TOLERANCE * max(1.0, float(truth.abs().max()))
            difference = float((said.double() - truth.double()).abs().max())
            if not difference <= allowed:  # also catches NaN
                raise Differs(f"{where} the file differs from the model by {difference:.2g} (tolerance {allowed:.0e})")
            largest, tolerance = max(largest, difference), max(tolerance, allowed)
    sizes = sorted({len(batch) for batch in batches})
    check = {"inputs": len(inputs), "batches": sizes, "lengths": lengths}
    return {**check, "largest_difference": largest, "tolerance": tolerance}


def _names(tensor: Tensor, variable: dict[int, str]) -> list[int | str]:
    return [variable.get(dim, size) for dim, size in enumerate(tensor.shape)]


def _output_shapes(module: LightningModule, example: Tensor, written: Written) -> list[list[int | str]]:
    """The outputs' shapes; a size that varies with a variable input dimension is given by its name."""
    first = tree_leaves(module(example))
    shapes: list[list[int | str]] = [list(output.shape) for output in first]
    for dim, name in written.variable.items():
        other = example.narrow(dim, 0, 1)
        for shape, output, before in zip(shapes, tree_leaves(module(other)), first, strict=True):
            for place, size in enumerate(output.shape):
                if size != before.shape[place]:
                    shape[place] = name
    return shapes


def _described(names: list[str], tensors: list[Tensor], shapes: list[list[int | str]]) -> list[dict[str, Any]]:
    rows = zip(names, tensors, shapes, strict=True)
    return [{"name": name, "dtype": str(t.dtype).removeprefix("torch."), "shape": shape} for name, t, shape in rows]


def _in_one_line(error: Exception) -> str:
    """The error's first paragraph: messages of torch.export and onnx are pages long."""
    if not isinstance(error, ValueError | OSError | Differs):
        traceback.print_exc()
    paragraph = " ".join(str(error).strip().split("\n\n")[0].split())
    known = isinstance(error, ValueError | OSError | Differs)
    return (paragraph if known else f"{type(error).__name__}: {paragraph}")[:500]
