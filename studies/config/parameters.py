"""Parameters of an experiment by their dotted names: model.net.init_args.hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.common.suggestions import did_you_mean
from studies.config.search_space import SECTIONS

CLASS_SECTIONS = ("model", "data", "optimizer", "lr_scheduler", "function")
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def set_parameter(sections: dict[str, Any], name: str, value: Any) -> None:
    """Sets a dotted parameter in the sections; `init_args` may be omitted from its name, as in LightningCLI.

    Args:
        name: a section, then the path to a leaf: parameters, keys of mappings, indices of lists.

    Raises:
        ValueError: there is no such section, or the path leads through something other than a mapping or list.
    """
    section, _, way = name.partition(".")
    if section not in SECTIONS or not way:
        raise ValueError(f"unknown parameter {name}{did_you_mean(section, SECTIONS)}")
    if section == "trainer":
        target: Any = sections["trainer"]
    else:
        if sections.get(section) is None:
            raise ValueError(f"unknown parameter {name}: the experiment has no {section} section")
        target = sections[section]
    *steps, leaf = way.split(".")
    for index, step in enumerate(steps):
        target = _inside(target, step, f"{section}.{'.'.join(steps[: index + 1])}")
    if isinstance(target, list):
        target[_index(target, leaf, name)] = value
        return
    if not isinstance(target, dict):
        raise ValueError(
            f"unknown parameter {name}: {name.rpartition('.')[0]} is {target!r:.60}, which has no parameters"
        )
    if "class_path" in target and leaf not in CLASS_KEYS:
        target = _init_args(target)
    if leaf == "class_path" and target.get("class_path") != value:
        target.pop("init_args", None)  # they belong to the previous class
        target.pop("dict_kwargs", None)
    target[leaf] = value


def _inside(target: Any, step: str, where: str) -> Any:
    """The item of a mapping or list for one step of a parameter's name; created if missing in a mapping."""
    if isinstance(target, list):
        return target[_index(target, step, where)]
    if not isinstance(target, dict):
        raise ValueError(f"unknown parameter {where}: {where.rpartition('.')[0]} is {target!r:.60}")
    if "class_path" in target and step not in CLASS_KEYS:
        target = _init_args(target)
    if step == "init_args":
        return _init_args(target)
    if target.get(step) is None:
        target[step] = {}
    elif isinstance(target[step], str) and step not in CLASS_KEYS:
        target[step] = {"class_path": target[step]}  # short form of a class without arguments
    return target[step]


def _init_args(section: dict[str, Any]) -> dict[str, Any]:
    if section.get("init_args") is None:
        section["init_args"] = {}
    arguments: dict[str, Any] = section["init_args"]
    return arguments


def _index(items: list[Any], step: str, where: str) -> int:
    if not step.isdigit() or int(step) >= len(items):
        raise ValueError(f"unknown parameter {where}: a list of {len(items)} has the indices 0 to {len(items) - 1}")
    return int(step)


def flat_parameters(sections: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters under their dotted names; a class is itself a value.

    `model` is the module's class, `model.rate` its argument, `model.net` a nested class and
    `model.net.init_args.width` its argument.
    """
    flat: dict[str, Any] = {}
    for section in CLASS_SECTIONS:
        if sections.get(section) is not None:
            flat |= _flat_class(section, sections[section], "")
    return flat | {f"trainer.{name}": value for name, value in sections["trainer"].items()}


def _flat_class(name: str, spec: Mapping[str, Any], between: str = "init_args.") -> dict[str, Any]:
    flat: dict[str, Any] = {name: spec["class_path"]}
    arguments = {**(spec.get("init_args") or {}), **(spec.get("dict_kwargs") or {})}
    for key, value in arguments.items():
        inner = f"{name}.{between}{key}"
        flat |= _flat_class(inner, value) if is_class_spec(value) else {inner: value}
    return flat


def is_class_spec(value: Any) -> bool:
    """Whether a value of a config describes an object: {class_path, init_args, dict_kwargs}."""
    return isinstance(value, Mapping) and isinstance(value.get("class_path"), str) and set(value) <= set(CLASS_KEYS)
