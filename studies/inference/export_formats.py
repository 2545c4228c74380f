"""Export formats: writes a trained module, and reads the file back for verification.

A file's metadata contains the module's class_path and, as JSON, init_args, including data-derived sizes.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

from studies.inference.example_inputs import variable_dimensions
from studies.trial.arguments import parse_section

Ask = Callable[[Tensor], list[Tensor]]  # inputs (B, ...) -> all outputs


class Written(NamedTuple):
    """A written file, and the model read from it.

    Attributes:
        variable: dimension -> name, for variable dimensions.
        at_most: name -> largest size, for bounded dimensions.
        exact: whether the outputs must be bit-identical to the original's.
    """

    ask: Ask
    variable: dict[int, str]
    at_most: dict[str, int]
    exact: bool


def input_name(module: LightningModule) -> str:
    """The name of `forward`'s first argument."""
    return next(iter(inspect.signature(module.forward).parameters))


def output_names(outputs: Any) -> list[str]:
    """A name for each tensor that `forward` returns: `output`, or the keys of a dictionary, or numbers."""
    leaves = tree_leaves(outputs)
    if isinstance(outputs, dict) and len(outputs) == len(leaves):
        return [str(name) for name in outputs]
    return ["output"] if len(leaves) == 1 else [f"output_{number}" for number in range(1, len(leaves) + 1)]


def write_onnx(module: LightningModule, example: Tensor, said: dict[str, str], path: Path) -> Written:
    """ONNX, for onnxruntime and other runtimes without Python."""
    import onnxruntime

    program, variable, at_most = _traced(module, example)
    name = input_name(module)
    onnx_program = torch.onnx.export(
        program,
        (),
        dynamo=True,
        verbose=False,
        input_names=[name],
        output_names=output_names(module(example)),
        dynamic_shapes=(variable,),  # for the names only: the program already has them
    )
    assert onnx_program is not None
    for node in onnx_program.model.graph.all_nodes():
        node.metadata_props.clear()  # as in `_traced`
    onnx_program.model.metadata_props.update(said)
    onnx_program.save(path, external_data=False)  # one file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def ask(inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {name: inputs.numpy()})]

    return Written(ask, variable, at_most, exact=False)


def write_pt2(module: LightningModule, example: Tensor, said: dict[str, str], path: Path) -> Written:
    """torch.export's format, for torch without the module's source."""
    program, variable, at_most = _traced(module, example)
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files=said)
    with open(path, "rb") as file:
        loaded = torch.export.load(file).module()
    return Written(lambda inputs: tree_leaves(loaded(inputs)), variable, at_most, exact=False)


def write_safetensors(module: LightningModule, example: Tensor, said: dict[str, str], path: Path) -> Written:
    """Only the weights, for use with the module's source."""
    from safetensors import safe_open
    from safetensors.torch import load_model, save_model

    save_model(module, str(path), metadata=said)  # makes them contiguous
    with safe_open(path, "pt") as file:
        read = file.metadata()
    section = {"class_path": read["class_path"], "init_args": json.loads(read["init_args"])}
    loaded = parse_section("model", section).instantiated().eval()
    load_model(loaded, path)
    return Written(lambda inputs: tree_leaves(loaded(inputs)), variable_dimensions(example), {}, exact=True)


def _traced(module: LightningModule, example: Tensor) -> tuple[ExportedProgram, dict[int, str], dict[str, int]]:
    """The module as an exported program, its variable dimensions, and their largest sizes.

    Raises:
        ValueError: in one line: the batch dimension is not variable.
    """
    # torch creates hidden progress bars, whose multiprocessing lock would outlive this process.
    tqdm.set_lock(threading.RLock())
    wanted = variable_dimensions(example)
    program = torch.export.export(module, (example,), dynamic_shapes=({dim: Dim.AUTO for dim in wanted},))
    inputs = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    variable, at_most = {}, {}
    for dim, size in enumerate(inputs.meta["val"].shape):
        bounds = program.range_constraints.get(size.node.expr) if isinstance(size, torch.SymInt) else None
        if bounds is not None:
            variable[dim] = wanted[dim]
            if bounds.upper.is_Integer:
                at_most[wanted[dim]] = int(bounds.upper)
    if 0 not in variable:
        raise ValueError(f"{type(module).__name__}.forward treats its batch size as a constant ({len(example)})")
    # Do not leak this machine's paths, source lines or data rows.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    program.example_inputs = None
    return program, variable, at_most


WRITERS: dict[str, Callable[[LightningModule, Tensor, dict[str, str], Path], Written]] = {
    "onnx": write_onnx,
    "pt2": write_pt2,
    "safetensors": write_safetensors,
}
