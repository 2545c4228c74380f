"""Constructors get the same arguments as from LightningCLI, of the same types, for parameters of any kind."""

from __future__ import annotations

import enum
import inspect
from pathlib import Path
from typing import Any

import argument_kinds  # noqa: F401  imported here once, and by the parsers by its name
import pytest
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LightningCLI

from studies.config.experiment import load
from studies.config.yaml_io import dump_yaml, load_yaml
from studies.protocol.trial_spec import TrialSpec
from studies.trial.arguments import dumped
from studies.trial.instantiate import build

LINEAR = "{class_path: torch.nn.Linear, init_args: {in_features: 4, out_features: 2}}"
# Class, and the content below `model:` in the file.
KINDS = {
    "path by default": ("PathDefault", ""),
    "path": ("PathDefault", "{root: some/where}"),
    "class by default": ("ClassDefault", ""),
    "class": ("ClassDefault", "{activation: torch.nn.GELU}"),
    "untyped class by default": ("UntypedClassDefault", ""),
    "callable by default": ("CallableDefault", ""),
    "callable": ("CallableDefault", "{activation: torch.tanh}"),
    "callable that is a class": ("CallableDefault", "{activation: torch.nn.GELU}"),
    "enum by default": ("EnumDefault", ""),
    "enum": ("EnumDefault", "{reduction: SUM}"),
    "enum inside its class by default": ("NestedEnum", ""),
    "enum inside its class": ("NestedEnum", "{mode: SLOW}"),
    "dataclass by default": ("DataclassDefault", ""),
    "dataclass in part": ("DataclassDefault", "{schedule: {rates: [1, 2]}}"),
    "dataclass in dataclass by default": ("NestedDataclass", ""),
    "dataclass in dataclass in part": ("NestedDataclass", "{plan: {schedule: {warmup: 7}}}"),
    "module by default": ("ModuleDefault", ""),
    "module": ("ModuleDefault", "{loss: torch.nn.MSELoss}"),
    "untyped module by default": ("UntypedModuleDefault", ""),
    "untyped module": ("UntypedModuleDefault", "{loss: {class_path: torch.nn.MSELoss}}"),
    "tuples by default": ("Tuples", ""),
    "tuples": ("Tuples", "{shape: [7, 8], untyped: [1, 2], many: [1, 2.5]}"),
    "mappings by default": ("Mappings", ""),
    "mappings": (
        "Mappings",
        "{weights: {2: 1, 5: 0.5}, named: {a: 1}, untyped: {1: one, b: 2}, size: {width: 3, height: 4}}",
    ),
    "sets by default": ("Sets", ""),
    "sets": ("Sets", "{names: [b, c, b]}"),
    "sequences by default": ("Sequences", ""),
    "sequences": ("Sequences", "{widths: [1, 2], items: [x, y], lists: [[1, 2], []]}"),
    "named tuple by default": ("NamedTuples", ""),
    "named tuple": ("NamedTuples", "{point: {x: 5, y: 6}}"),
    "dtype by default": ("DtypeDefault", ""),
    "dtype": ("DtypeDefault", "{dtype: torch.float64}"),
    "device by default": ("DeviceDefault", ""),
    "untyped, required": ("UntypedRequired", "{hidden: 3}"),
    "untyped, required, not given": ("UntypedRequired", ""),
    "untyped, any value": ("UntypedRequired", "{hidden: [1, {a: 2.5}, null], rate: fast}"),
    "tensor by default": ("TensorDefault", ""),
    "tensor that is none": ("TensorDefault", "{weight: null}"),
    "args and kwargs": ("Variadic", "{hidden: 4}"),
    "parameters of its base": ("Inherits", ""),
    "parameters of its base, given": ("Inherits", "{reduction: SUM, extra: 2}"),
    "factories by default": ("Factories", ""),
    "factories": (
        "Factories",
        "{optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.02}}, "
        "scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3}}, "
        f"layer: {LINEAR}}}",
    ),
    "factories by short names": ("Factories", "{optimizer: {class_path: Adam, init_args: {lr: 1}}}"),
    "numbers by default": ("Numbers", ""),
    "numbers": ("Numbers", "{cap: 1e3, floor: .nan, rate: 2, count: 1_000, large: 3, is_on: false, bound: 1+1j}"),
    "numbers, infinite": ("Numbers", "{cap: -.inf, floor: .inf, exact: 1e-3}"),
    "texts by default": ("Texts", ""),
    "texts like truths": ("Texts", "{text: 'on', untyped: 'yes', maybe: 'off'}"),
    "texts like numbers": ("Texts", "{text: '1e3', untyped: '12', maybe: '0x1f'}"),
    "texts like numbers, bare": ("Texts", "{text: a1e3, untyped: 1e3, maybe: 1.2.3}"),
    "texts like nothing": ("Texts", "{text: 'null', untyped: 'null', maybe: 'null'}"),
    "texts like nothing, bare": ("Texts", "{untyped: null, maybe: ~}"),
    "texts like dates, bare": ("Texts", "{text: 2026-01-02, untyped: 2026-01-02}"),
    "texts of other kinds": ("Texts", "{text: '{a: 1}', untyped: '[1]', maybe: ''}"),
    "unions by default": ("Unions", ""),
    "unions, one way": ("Unions", "{number_or_text: 5, old: [1, 2], maybe: null, kind: 3, module_or_name: gelu}"),
    "unions, the other": ("Unions", f"{{number_or_text: '5', old: 2, maybe: 4, kind: b, module_or_name: {LINEAR}}}"),
    "modules in a list": ("Modules", f"{{several: [{LINEAR}, torch.nn.ReLU]}}"),
    "modules in a mapping": ("Modules", f"{{named: {{a: {LINEAR}, b: {{class_path: torch.nn.ReLU}}}}}}"),
    "three deep": (
        "Modules",
        "{net: {class_path: argument_kinds.Block, init_args: {depth: 2, inner: "
        f"{{class_path: argument_kinds.Block, init_args: {{inner: {LINEAR}}}}}}}}}}}",
    ),
    "dict_kwargs": (
        "Modules",
        "{options: {class_path: argument_kinds.Options, init_args: {ratio: 2}, dict_kwargs: {note: 1e-3}}}",
    ),
    "an object by default": ("BuiltByHand", ""),
    "an object": ("BuiltByHand", "{options: {class_path: argument_kinds.Options, init_args: {path: a/b}}}"),
    "a function for a class": ("make_module", "{width: 5}"),
}  # fmt: skip
REFUSED = {
    "device": ("DeviceDefault", "{device_of_sums: cpu}"),
    "truth for text": ("Texts", "{text: on}"),
    "time for text": ("Texts", "{text: 1:30:00}"),
    "number for text": ("Texts", "{text: 1e3}"),
    "text for number": ("Numbers", "{cap: high}"),
    "float for int": ("Numbers", "{count: 3.5}"),
    "whole float for int": ("Numbers", "{count: 3.0}"),
    "number for truth": ("Numbers", "{is_on: 1}"),
    "unknown member of an enum": ("EnumDefault", "{reduction: MEDIAN}"),
    "value of an enum's member": ("EnumDefault", "{reduction: mean}"),
    "unknown literal": ("Unions", "{kind: c}"),
    "tuple of another length": ("Tuples", "{shape: [1]}"),
    "class of another kind": ("ClassDefault", "{activation: pathlib.Path}"),
    "object of another kind": ("ModuleDefault", "{loss: argument_kinds.Options}"),
    "unknown parameter of a nested class": ("Modules", "{net: {class_path: torch.nn.Linear, init_args: {in: 3}}}"),
    "missing parameter of a nested class": ("Modules", "{net: {class_path: torch.nn.Linear}}"),
    "unknown parameter": ("Modules", "{nett: null}"),
}


def shown(value: Any) -> Any:
    """A comparable form of a value: its type and contents."""
    kind = type(value).__name__
    if isinstance(value, torch.nn.Module):
        tensors = {name: shown(tensor) for name, tensor in value.state_dict().items()}
        return kind, repr(value), tensors, vars(value).get("depth")
    if isinstance(value, torch.Tensor):
        return kind, str(value.dtype), value.tolist()
    if isinstance(value, torch.optim.Optimizer):
        return kind, shown(value.state_dict())
    if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
        return kind, shown(value.state_dict())
    if isinstance(value, enum.Enum) or inspect.isclass(value) or inspect.isbuiltin(value):
        return kind, str(value), id(value)
    if isinstance(value, dict):
        return kind, {repr(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return kind, [shown(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, value))
    if isinstance(value, float):
        return kind, repr(value)  # nan is not equal to itself
    if type(value).__module__ == "argument_kinds":
        return kind, shown(vars(value))
    if callable(value):  # a factory made by the parser: compared by its results
        torch.manual_seed(0)
        return kind, shown(value())
    return kind, value


def written(folder: Path, class_name: str, arguments: str) -> Path:
    file = folder / "kind.yaml"
    file.write_text(f"model:\n  class_path: argument_kinds.{class_name}\n  init_args: {arguments or '{}'}\n")
    return file


@pytest.fixture(scope="module")
def cli() -> LightningCLI:
    """A LightningCLI whose parser is shared, since creating it takes half a second."""
    arguments = ["--model=argument_kinds.PathDefault", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    options: dict[str, Any] = {"seed_everything_default": False, "save_config_callback": None, "run": False}
    return LightningCLI(LightningModule, subclass_mode_model=True, args=arguments, **options)


def by_lightning(cli: LightningCLI, file: Path) -> Any:
    cli.config = cli.parser.parse_args(["--config", str(file)])
    torch.manual_seed(0)
    return cli.parser.instantiate(cli.config).model


def by_the_harness(file: Path) -> Any:
    """The way of an experiment to a trial: read, written into the spec, and read again."""
    sections = load(str(file)).sections
    spec = TrialSpec(run_id="r", experiment=sections, seed=0, folder=str(file.parent))
    sections = TrialSpec.load(spec.save()).experiment
    assert repr(load_yaml(dump_yaml(sections))) == repr(sections), "as in the preflight check and config.yaml"
    torch.manual_seed(0)
    return build(sections, seed=0, trainer=False).module


@pytest.mark.parametrize("name", KINDS)
def test_arguments_equal_lightningclis(cli: LightningCLI, tmp_path: Path, name: str) -> None:
    file = written(tmp_path, *KINDS[name])
    theirs, ours = by_lightning(cli, file).received, by_the_harness(file).received
    assert list(ours) == list(theirs)
    for parameter in theirs:
        assert shown(ours[parameter]) == shown(theirs[parameter]), parameter


@pytest.mark.parametrize("name", REFUSED)
def test_lightningclis_errors_are_one_line(cli: LightningCLI, tmp_path: Path, name: str) -> None:
    file = written(tmp_path, *REFUSED[name])
    with pytest.raises((SystemExit, TypeError)):
        by_lightning(cli, file)
    with pytest.raises(ValueError, match=r"model") as refused:
        by_the_harness(file)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_parameters_without_a_value_are_shown_too() -> None:
    parameters = dumped({"model": {"class_path": "lightning_modules.GRUSeq2Seq", "init_args": {"hidden_size": 4}}})
    assert parameters["model.hidden_size"] == 4
    assert "model.num_parameters" in parameters and parameters["model.num_parameters"] is None
