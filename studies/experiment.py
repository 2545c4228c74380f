"""Reads, overrides and checks an experiment file. Knows YAML and names, not classes: it imports no torch."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from studies.nearest import nearest
from studies.space import SECTIONS, Space, parse_space

SAMPLERS = ("random", "grid", "tpe", "gp", "cmaes")
PRUNERS = ("none", "median", "hyperband", "asha")
DIRECTIONS = ("maximize", "minimize")
KEYS = ("description", "model", "data", "trainer", "seed", "search")
SEARCH_KEYS = ("metric", "direction", "space", "sampler", "pruner")
SHIPPED = Path(__file__).parent


@dataclass
class SearchPlan:
    """The `search:` section: what is varied, how, and by which metric the result is judged."""

    metric: str
    direction: str
    space: Space | str
    sampler: str = "tpe"
    pruner: str = "none"
    space_as_written: Any = None  # what a study's definition keeps


@dataclass
class Experiment:
    """One experiment: what is trained, on what, how, and how it is searched.

    `model` and `data` are {class_path, init_args}; `trainer` holds arguments of Lightning's Trainer.
    """

    name: str
    path: Path
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    search: SearchPlan | None = None
    description: str = ""

    @property
    def sections(self) -> dict[str, Any]:
        """A copy of model, data and trainer: what a trial is built from."""
        return copy.deepcopy({"model": self.model, "data": self.data, "trainer": self.trainer})

    def with_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The sections with dotted parameters (model.learning_rate) put in."""
        sections = self.sections
        for name, value in params.items():
            set_parameter(sections, name, value)
        return sections


def set_parameter(sections: dict[str, Any], name: str, value: Any) -> None:
    """Puts a dotted parameter into model, data or trainer sections."""
    section, _, parameter = name.partition(".")
    if section not in SECTIONS or not parameter:
        raise ValueError(f"unknown parameter {name}{nearest(section, SECTIONS)}")
    target = sections["trainer"] if section == "trainer" else sections[section].setdefault("init_args", {})
    target[parameter] = value


def flat_parameters(sections: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters under their dotted names, the classes as `model` and `data`."""
    flat: dict[str, Any] = {}
    for section in ("model", "data"):
        flat[section] = sections[section]["class_path"]
        flat |= {f"{section}.{name}": value for name, value in sections[section].get("init_args", {}).items()}
    return flat | {f"trainer.{name}": value for name, value in sections["trainer"].items()}


def shipped() -> dict[str, Path]:
    """The experiments that come with the harness: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(name: str) -> Experiment:
    """Reads an experiment by name (of a shipped one) or by path (of a .yaml file).

    Raises:
        ValueError: in one line: an unknown name with the nearest one, broken YAML with its line, wrong keys.
    """
    known = shipped()
    path = known.get(name) or Path(name)
    if name not in known and path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"unknown experiment {name}{nearest(name, known)}; or give the path of a .yaml file")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ValueError(f"experiment file {path} cannot be read: {reason}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Experiment:
    """Reads an experiment file's text; see load."""
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise ValueError(f"{path}{line}: broken YAML: {problem}") from error
    try:
        return _experiment(content, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _experiment(content: Any, path: Path) -> Experiment:
    _check_keys(content, "the file", KEYS)
    for section in ("model", "data"):
        _check_keys(content.get(section), section, ("class_path", "init_args"))
        if not isinstance(content[section].get("class_path"), str):
            raise ValueError(f"{section}.class_path must be a dotted path of a class, such as lightning_modules.MLP")
        init_args = content[section].setdefault("init_args", {}) or {}
        if not isinstance(init_args, Mapping):
            raise ValueError(f"{section}.init_args must map parameters to values, but got {init_args!r}")
        content[section]["init_args"] = dict(init_args)
    trainer = content.get("trainer") or {}
    if not isinstance(trainer, Mapping):
        raise ValueError(f"trainer must map parameters to values, but got {trainer!r}")
    return Experiment(
        name=path.stem,
        path=path.resolve(),
        model=content["model"],
        data=content["data"],
        trainer=dict(trainer),
        seed=checked_seed(content.get("seed", 0)),
        search=_search(content["search"]) if content.get("search") is not None else None,
        description=str(content.get("description", "")),
    )


def _search(content: Any) -> SearchPlan:
    _check_keys(content, "search", SEARCH_KEYS)
    metric = content.get("metric")
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"search.metric must be the name of a logged metric, such as val/accuracy, but got {metric=}")
    written = content.get("space")
    space = written if isinstance(written, str) else parse_space(written)
    return SearchPlan(
        metric=metric,
        direction=one_of("search.direction", content.get("direction", "maximize"), DIRECTIONS),
        space=space,
        sampler=one_of("search.sampler", content.get("sampler", "tpe"), SAMPLERS),
        pruner=one_of("search.pruner", content.get("pruner", "none"), PRUNERS),
        space_as_written=written,
    )


def _check_keys(content: Any, where: str, allowed: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must map names to values ({', '.join(allowed)}), but got {content!r:.80}")
    for key in content:
        if key not in allowed:
            raise ValueError(f"unknown key {key!r} in {where}{nearest(str(key), allowed)}")


def one_of(what: str, value: Any, allowed: tuple[str, ...]) -> str:
    """The value, if it is one of the allowed names; else a ValueError with the nearest."""
    if value not in allowed:
        raise ValueError(f"unknown {what} {value}{nearest(str(value), allowed)}")
    return str(value)


def checked_seed(value: Any) -> int:
    """The value, if it is a whole number from 0 to 2**31 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"seed must be a whole number between 0 and 2147483647, but got seed={value!r}")
    return value


def override(experiment: Experiment, overrides: Mapping[str, str]) -> None:
    """Puts the command line's --model.X, --data.X and --trainer.X into an experiment, read as YAML values.

    A parameter that is overridden is no longer searched: searching it would undo what was asked for.
    """
    for name, text in overrides.items():
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--{name} {text}: broken YAML: {getattr(error, 'problem', error)}") from error
        section, _, parameter = name.partition(".")
        if section in ("model", "data") and parameter == "class_path":
            getattr(experiment, section)["class_path"] = value
            continue
        sections = {"model": experiment.model, "data": experiment.data, "trainer": experiment.trainer}
        set_parameter(sections, name, value)
        plan = experiment.search
        if plan is not None and isinstance(plan.space, dict) and plan.space.pop(name, None) is not None:
            plan.space_as_written.pop(name)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as everybody expects it: 1e-3 is a number, and a key given twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if not isinstance(key, list | dict) and key in keys[:index]:
                mark = node.value[index][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(text: str) -> Any:
    """Safe YAML, with 1e-3 a float."""
    return yaml.load(text, Loader=_Loader)


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C, where PyYAML was built so: a tenth of the time


def dump_yaml(sections: Any) -> str:
    return str(yaml.dump(sections, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110))
