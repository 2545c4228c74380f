"""An experiment made of Python objects, written as the experiment file that it stands for."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.atomic_files import write_whole
from studies.common.objective import VALUE
from studies.config.search_space import Choice, Range
from studies.config.yaml_io import dump_yaml
from studies.python_api.kept_objects import KeptObjects

SECTIONS = ("model", "data", "optimizer", "lr_scheduler", "function")  # each a class or function with its arguments


@dataclass
class Experiment:
    """What is trained, on what, how, and how it is searched, as Python objects.

    Classes may be defined anywhere, also in a notebook's cells or in a script. Arguments of a class are given with
    `functools.partial`; a `Range` or `Choice` in place of a value is searched by `studies.study`, while `studies.train`
    uses the middle of the range (the geometric mean if it is logarithmic) or the first choice.

        digits = studies.Experiment(
            "digits",
            model=partial(Net, width=32, learning_rate=studies.Range(1e-4, 1e-1, log=True)),
            data=partial(Digits, batch_size=studies.Choice([32, 64])),
            trainer={"max_epochs": 5},
            metric="val/accuracy",
        )

    Attributes:
        name: letters, digits, '.', '_', '-'; also of its experiment in MLflow.
        model: a LightningModule's class, a partial of it, or an instance, of which each trial trains a copy.
        data: a LightningDataModule's, likewise; None if the module has its own dataloaders.
        trainer: arguments of Lightning's Trainer; callbacks as classes, partials or instances.
        optimizer: a class or partial of one, where the module has no configure_optimizers.
        lr_scheduler: likewise.
        function: instead of all these: f(trial) or f(trial, width, learning_rate), see studies.trial.function; its
            parameters are in trial.params, and it returns the value to search by or logs it with trial.log.
        seed: training seed, or the seed that a study's seeds are derived from.
        metric: a logged metric by which a study is judged; of a function, None stands for what it returns.
        direction: maximize or minimize.
        metrics: several objectives instead, e.g. ["val/accuracy", "parameters"]; see docs/searching.md.
        directions: of each of them.
        sampler: of the study: random, grid, tpe, gp, cmaes, nsga2 or a class path.
        pruner: of the study: none, median, hyperband, asha or a class path.
        space: further searched parameters by dotted name, e.g. {"trainer.max_epochs": Choice([5, 10])}, or those of
            the function by name.
    """

    name: str
    model: Any = None
    data: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Any = None
    lr_scheduler: Any = None
    function: Any = None
    seed: int = 0
    metric: str | None = None
    direction: str = "maximize"
    metrics: Sequence[str] = ()
    directions: Sequence[str] = ()
    sampler: str | None = None
    pruner: str | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.-]{0,99}", self.name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', but got {self.name!r}")

    def write(self, folder: Path) -> Path:
        """Writes the experiment file, and beside it the classes and objects that no module of the user's has.

        Args:
            folder: gets a folder of the experiment's name, and in it one for each content, which never changes.

        Returns:
            The experiment file.

        Raises:
            ValueError: in one line: a value that no experiment file can hold, or an object that cannot be pickled.
        """
        kept = KeptObjects(re.sub(r"\W", "_", f"{self.name}_objects"))
        content = self._content(kept)
        digest = kept.digest(dump_yaml(content))
        home = folder / self.name / digest
        home.mkdir(parents=True, exist_ok=True)
        kept.write(home, digest)
        path = home / f"{self.name}.yaml"
        write_whole(path, dump_yaml(content))
        return path

    def _content(self, kept: KeptObjects) -> dict[str, Any]:
        """The content of the experiment file."""
        prefix = "function." if self.function is not None else ""
        space = {
            f"{prefix}{name.removeprefix(prefix)}": written_parameter(name, value) for name, value in self.space.items()
        }
        writer = _Writer(kept, space)
        content: dict[str, Any] = {"description": self.description} if self.description else {}
        content["seed"] = self.seed
        for name in SECTIONS:
            value = getattr(self, name)
            if value is not None:
                content[name] = writer.section(value, name)
        if not isinstance(self.trainer, Mapping):
            raise ValueError(f"trainer must map the Trainer's arguments to values, but got {self.trainer!r:.80}")
        if self.trainer:
            content["trainer"] = {key: writer.value(item, f"trainer.{key}") for key, item in self.trainer.items()}
        search = self._search(space)
        return content | ({"search": search} if search else {})

    def _search(self, space: dict[str, Any]) -> dict[str, Any]:
        """The search section; empty without objective and space."""
        metric = self.metric or (VALUE if self.function is not None else None)
        objective: dict[str, Any] = {"metric": metric, "direction": self.direction} if metric is not None else {}
        if self.metrics or self.directions:
            if self.metric is not None:
                raise ValueError("metric and metrics cannot be combined: give one objective or several")
            objective = {"metrics": list(self.metrics), "directions": list(self.directions)}
        if space and not objective:
            raise ValueError(f"experiment {self.name} searches {', '.join(space)}, so it needs a metric")
        how = {key: value for key in ("sampler", "pruner") if (value := getattr(self, key)) is not None}
        return objective | ({"space": space, **how} if space else {})


class _Writer:
    """Turns objects into values of an experiment file."""

    def __init__(self, kept: KeptObjects, space: dict[str, Any]) -> None:
        self._kept = kept
        self._space = space

    def section(self, value: Any, where: str) -> dict[str, Any]:
        """{class_path, init_args} of a class, a partial of one, or an instance."""
        if isinstance(value, str):
            return {"class_path": value}
        made = self.value(value, where)
        if isinstance(made, str):
            return {"class_path": made}
        if not isinstance(made, dict) or "class_path" not in made:
            raise ValueError(
                f"{where} must be a class or function, a functools.partial of one, or an instance, but got "
                f"{value!r:.80}"
            )
        return made

    def value(self, value: Any, where: str) -> Any:
        """A value as YAML has it.

        Args:
            where: its dotted name, for the search space and for errors.
        """
        if isinstance(value, Range | Choice):
            self._space[where] = written_parameter(where, value)
            return self.value(_start(value), where)
        if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, functools.partial):
            return self._partial(value, where)
        if isinstance(value, Mapping):
            return {key: self.value(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, f"{where}.{index}") for index, item in enumerate(value)]
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return self._kept.path_of(value, where)
        return {"class_path": self._kept.factory_of(value, where)}

    def _partial(self, value: functools.partial[Any], where: str) -> dict[str, Any]:
        if value.args:
            raise ValueError(f"{where}: give the arguments of a partial by name, but got {value!r:.120}")
        within = where if where in SECTIONS else f"{where}.init_args"
        arguments = {name: self.value(item, f"{within}.{name}") for name, item in value.keywords.items()}
        return {"class_path": self._kept.path_of(value.func, where), "init_args": arguments}


def written_parameter(name: str, value: Any) -> Any:
    """A Range or Choice as the `space:` section of an experiment file has it.

    Raises:
        ValueError: it is neither, nor a list.
    """
    if isinstance(value, Range):
        optional = {"log": value.log or None, "step": value.step}
        return {"low": value.low, "high": value.high} | {
            key: item for key, item in optional.items() if item is not None
        }
    if isinstance(value, Choice | list):
        return list(value.values if isinstance(value, Choice) else value)
    raise ValueError(f"space: {name} must be a studies.Range or studies.Choice, but got {value!r:.80}")


def _start(parameter: Range | Choice) -> Any:
    """The value of a searched parameter where nothing is searched."""
    if isinstance(parameter, Choice):
        return parameter.values[0]
    low, high, step = parameter.low, parameter.high, parameter.step
    middle = (low * high) ** 0.5 if parameter.log else (low + high) / 2
    if step is not None:
        middle = low + round((middle - low) / step) * step
    return int(middle) if parameter.whole else middle
