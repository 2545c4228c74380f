"""Reads, overrides and checks an experiment file: a LightningCLI config with a `search:` section.

Handles YAML and names only, not classes, so it imports no torch. Values are kept as written; the trial process resolves
types, defaults and nested classes (arguments.py), as LightningCLI does.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from studies.common.regular_files import read_text
from studies.common.suggestions import did_you_mean
from studies.config.checks import EXECUTORS, check_keys, checked_seed, class_section, named
from studies.config.file_classes import plain_text, resolve_files
from studies.config.parameters import CLASS_SECTIONS, set_parameter
from studies.config.search_plan import SearchPlan, search, with_one_form
from studies.config.search_space import canonical_name
from studies.config.yaml_io import load_yaml

LIGHTNING_KEYS = ("seed_everything", "model", "data", "trainer", "optimizer", "lr_scheduler")  # LightningCLI's
KEYS = ("description", *LIGHTNING_KEYS, "function", "seed", "search", "executor")
IGNORED_WHEN_NULL = ("ckpt_path", "weights_only")  # present in saved LightningCLI configs
NAMED = "# experiment: "  # first line of a run's config.yaml, followed by the experiment's name
LARGEST = 10_000_000  # bytes of a file
SHIPPED = Path(__file__).parents[1] / "experiments"


@dataclass
class Experiment:
    """One experiment: what is trained, on what, how, and how it is searched.

    `model`, `data`, `optimizer` and `lr_scheduler` are {class_path, init_args, dict_kwargs}, or None if the file has
    none; `trainer` holds arguments of Lightning's Trainer. A `function` stands in for all of them: it trains as it
    likes; see studies/trial/function.py.

    Attributes:
        search_path: folders that come first when importing its classes; empty for a shipped experiment.
    """

    name: str
    path: Path
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    lr_scheduler: dict[str, Any] | None = None
    function: dict[str, Any] | None = None
    seed: int = 0
    search: SearchPlan | None = None
    executor: str | dict[str, Any] = "local"
    description: str = ""
    search_path: list[str] = field(default_factory=list)

    @property
    def sections(self) -> dict[str, Any]:
        """A copy of the sections from which a trial is built, as written."""
        if self.function is not None:
            return copy.deepcopy({"function": self.function, "trainer": {}})
        optional = {name: getattr(self, name) for name in ("optimizer", "lr_scheduler")}
        given = {name: section for name, section in optional.items() if section is not None}
        return copy.deepcopy({"model": self.model, "data": self.data, "trainer": self.trainer, **given})

    def with_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The sections with dotted parameters (model.learning_rate, model.net.init_args.width) applied."""
        sections = self.sections
        for name, value in params.items():
            set_parameter(sections, name, copy.deepcopy(value))
        return sections


def shipped() -> dict[str, Path]:
    """The experiments that come with the harness: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(name: str, overlays: Sequence[str] = ()) -> Experiment:
    """Reads an experiment by name (of a shipped one) or by path (of a .yaml file).

    Args:
        overlays: further files that override its values, in order.

    Raises:
        ValueError: in one line: unknown name with the closest one, broken YAML with its line, or wrong keys.
    """
    known = shipped()
    path = known.get(name) or Path(name)
    if name not in known and path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"unknown experiment {name}{did_you_mean(name, known)}; or give the path of a .yaml file")
    contents = [(_read(file), file) for file in (path, *map(Path, overlays))]
    return parse(contents[0][0], path, contents[1:])


def _read(path: Path) -> str:
    try:
        return read_text(path, LARGEST).removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        reason = "not a text file" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise ValueError(f"experiment file {path} cannot be read: {reason}") from error


def parse(text: str, path: Path, overlays: Sequence[tuple[str, Path]] = ()) -> Experiment:
    """Parses an experiment file's text and its overlays; see load."""
    content = _content(text, path)
    for more, file in overlays:
        top = _content(more, file)
        content = _laid_over(with_one_form(content, top), top)
    try:
        experiment = _experiment(content, path)
        named = re.match(rf"{NAMED}([\w][\w. -]{{0,99}})\r?\n", text)
        if named is not None and path.name == "config.yaml":
            experiment.name = named[1]
        return experiment
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _content(text: str, path: Path) -> dict[str, Any]:
    """A file's content, with keys checked and `./net.py:Net` classes resolved relative to it."""
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise ValueError(f"{path}{line}: broken YAML: {problem}") from error
    try:
        if isinstance(content, dict):
            for key in IGNORED_WHEN_NULL:
                if content.get(key, 0) is None:
                    del content[key]
            if content.get("ckpt_path"):
                raise ValueError("ckpt_path cannot be set: a run starts from fresh weights or resumes from its own")
        check_keys(content, "the file", KEYS)
        for section in CLASS_SECTIONS:
            if isinstance(content.get(section), str):
                content[section] = {"class_path": content[section]}
        resolve_files(content, path.resolve().parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def _laid_over(base: Any, top: Any) -> Any:
    """Merges a config into another: mappings are merged, but a different class replaces the arguments."""
    if not isinstance(base, dict) or not isinstance(top, dict):
        return top
    if "class_path" in top and "class_path" in base and top["class_path"] != base["class_path"]:
        return top
    return {**base, **{key: _laid_over(base[key], value) if key in base else value for key, value in top.items()}}


def _experiment(content: dict[str, Any], path: Path) -> Experiment:
    folders: list[str] = []
    content = plain_text(content, folders)
    main = "function" if content.get("function") is not None else "model"
    for section in CLASS_SECTIONS:
        if section == main or content.get(section) is not None:
            content[section] = class_section(content.get(section), section)
    for section in (*CLASS_SECTIONS[:-1], "trainer") if main == "function" else ():
        if content.get(section):
            raise ValueError(f"function and {section} cannot be combined: a function does its own training")
    trainer = content.get("trainer") or {}
    if not isinstance(trainer, Mapping):
        raise ValueError(f"trainer must map parameters to values, but got {trainer!r}")
    own = [] if path.resolve().parent == SHIPPED.resolve() else [str(path.resolve().parent), *_import_folders()]
    return Experiment(
        name=path.stem,
        path=path.resolve(),
        model=content.get("model"),
        data=content.get("data"),
        trainer=dict(trainer),
        optimizer=content.get("optimizer"),
        lr_scheduler=content.get("lr_scheduler"),
        function=content.get("function"),
        seed=_seed(content),
        search=search(content["search"]) if content.get("search") is not None else None,
        executor=named("executor", content.get("executor") or "local", EXECUTORS),
        description=str(content.get("description", "")),
        search_path=list(dict.fromkeys([*folders, *own])),
    )


def _import_folders() -> list[str]:
    """The current folder, and those of PYTHONPATH, which a later command may not have."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [str(Path.cwd()), *(str(Path(folder).resolve()) for folder in given if folder)]


def _seed(content: dict[str, Any]) -> int:
    """`seed`, or LightningCLI's `seed_everything`: true means 0, as in LightningCLI; false means the default."""
    if "seed" in content and "seed_everything" in content:
        raise ValueError("seed and seed_everything are the same: give one of them")
    seed = content.get("seed", content.get("seed_everything", 0))
    if "seed_everything" in content and isinstance(seed, bool):
        return 0
    return checked_seed(seed)


def override(experiment: Experiment, overrides: Mapping[str, str]) -> None:
    """Applies the command line's --model.X, --data.X, --trainer.X ..., parsed as YAML, to an experiment.

    An overridden parameter is no longer searched, since the search would undo the override.
    """
    for name, text in overrides.items():
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--{name} {text}: broken YAML: {getattr(error, 'problem', error)}") from error
        value = _located(name, value, experiment.search_path)
        if name in CLASS_SECTIONS:
            section = {"class_path": value} if isinstance(value, str) else value
            setattr(experiment, name, class_section(section, name) if section is not None else None)
            continue
        parts = {key: getattr(experiment, key) for key in (*CLASS_SECTIONS, "trainer")}
        set_parameter(parts, name, value)
        plan, name = experiment.search, canonical_name(name)
        if plan is not None and isinstance(plan.space, dict) and plan.space.pop(name, None) is not None:
            plan.space_as_written = {
                key: range_ for key, range_ in plan.space_as_written.items() if canonical_name(key) != name
            }


def _located(name: str, value: Any, search_path: list[str]) -> Any:
    """A command-line value with ./net.py:Net classes resolved relative to the current folder."""
    names_a_class = name in CLASS_SECTIONS or name.endswith(".class_path")
    boxed = {"class_path": value} if names_a_class and isinstance(value, str) else {"value": value}
    resolve_files(boxed, Path.cwd())
    return next(iter(plain_text(boxed, search_path).values()))
