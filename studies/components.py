"""Builds what a spec names by class_path: the user's datamodule and module, the data's sizes linked in."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from studies.nearest import nearest


def import_class(class_path: str) -> type:
    """The class behind a dotted path such as "lightning_modules.MLP".

    Raises:
        ValueError: if it does not import; the message says which part, and why.
    """
    module_name, _, name = class_path.rpartition(".")
    if not module_name:
        raise ValueError(f"class_path must be a dotted path such as lightning_modules.MLP, but got {class_path=!r}")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything at all
        raise ValueError(f"class_path={class_path!r} does not import: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(name, classes, f"{module_name}.")
        raise ValueError(f"class_path={class_path!r}: {module_name} has no {name}{hint}") from None


def parameters_of(cls: type) -> set[str]:
    """Names of the parameters of a class's constructor."""
    return set(inspect.signature(cls).parameters)


def instantiate(value: Any) -> Any:
    """Builds what {class_path, init_args} mappings describe, inside lists too (trainer.callbacks); else the value."""
    if isinstance(value, dict) and "class_path" in value:
        init_args = {name: instantiate(argument) for name, argument in value.get("init_args", {}).items()}
        return import_class(value["class_path"])(**init_args)
    if isinstance(value, list):
        return [instantiate(item) for item in value]
    return value


def build_datamodule(section: dict[str, Any], seed: int) -> LightningDataModule:
    """The datamodule of an experiment's data section; the trial's seed orders its samples unless it says otherwise."""
    cls = import_class(section["class_path"])
    arguments = {name: instantiate(value) for name, value in section.get("init_args", {}).items()}
    if "seed" in parameters_of(cls):
        arguments.setdefault("seed", seed)
    return cls(**arguments)


def sizes_of(datamodule: LightningDataModule) -> dict[str, Any]:
    """What the data decides about a model (number of classes, vocabulary, image shape), or nothing.

    A datamodule that has it says so by a property `sizes`, valid once its data is prepared and set up.
    """
    if not hasattr(type(datamodule), "sizes"):
        return {}
    datamodule.prepare_data()
    datamodule.setup("fit")
    return dict(datamodule.sizes)  # type: ignore[attr-defined]


def build_module(section: dict[str, Any], sizes: dict[str, Any]) -> LightningModule:
    """The module of an experiment's model section, with those of the data's sizes that its constructor takes.

    Raises:
        ValueError: if the experiment sets such a size to something else.
    """
    cls = import_class(section["class_path"])
    arguments = {name: instantiate(value) for name, value in section.get("init_args", {}).items()}
    for name in parameters_of(cls) & set(sizes):
        if arguments.setdefault(name, sizes[name]) != sizes[name]:
            raise ValueError(
                f"model.{name} comes from the data, where it is {sizes[name]!r}, but got {name}={arguments[name]!r}"
            )
    return cls(**arguments)
