"""Commands that do not train: listing runs, using trained models, and MLflow's UI."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from studies.cli.bad_input import BadInput
from studies.cli.parser import build_parser
from studies.cli.streams import show
from studies.common import lightning_alias
from studies.common.search_path import use
from studies.common.strict_json import json_line
from studies.config.experiment import Experiment, load, shipped


def show_versions(as_json: bool) -> int:
    """`harness --version`."""
    packages = ("studies-harness", "torch", "pytorch-lightning", "optuna", "mlflow")
    versions = {name: importlib.metadata.version(name) for name in packages} | {"python": platform.python_version()}
    if as_json:
        print(json_line({"versions": versions}))
    else:
        show(", ".join(f"{name} {version}" for name, version in versions.items()))
    return 0


def list_experiments(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiments = [load(name) for name in shipped()]
    if options.json:
        print(json_line({"experiments": [_listed(item) for item in experiments]}))
        return 0
    for item in experiments:
        show(f"{item.name}\n    {item.description}")
        show(f"    model {_class_path(item.model)}  data {_class_path(item.data)}")
        if item.search:
            by = ", ".join(f"{metric} ({direction})" for metric, direction in item.search.objectives.items())
            show(f"    space {', '.join(item.search.space)}  by {by}")
    show("\nnext: harness train NAME, or harness study NAME --trials 20 --workers 2")
    return 0


def _listed(item: Experiment) -> dict[str, Any]:
    search = item.search
    return {
        "name": item.name,
        "description": item.description,
        "model": _class_path(item.model),
        "data": _class_path(item.data),
        "space": search.space_as_written if search else None,
        "metric": search.metric if search else None,
        "direction": search.direction if search else None,
        "objectives": search.objectives if search else {},
    }


def describe(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """`harness describe NAME`: its search space, and every parameter with its docstring."""
    experiment = load(options.experiment)
    parameter_help = _parameter_help(experiment)
    if options.json:
        about = {**_listed(experiment), "path": str(experiment.path), "seed": experiment.seed}
        print(json_line({**about, "parameters": parameter_help.parameters_of(experiment.sections)}))
        return 0
    show(f"{experiment.name}\n    {experiment.description}\n    {experiment.path}")
    if experiment.search:
        by = ", ".join(f"{metric} ({direction})" for metric, direction in experiment.search.objectives.items())
        show(f"    searched by {by}:")
        written = experiment.search.space_as_written
        show(
            f"    {written}"
            if isinstance(written, str)
            else "\n".join(f"    {name}: {written[name]}" for name in written)
        )
    show(f"\n{parameter_help.help_of(experiment.sections)}")
    return 0


def _parameter_help(experiment: Experiment) -> ModuleType:
    lightning_alias.install()
    use(experiment.search_path)
    show("\nreading the parameters' types and docstrings (imports torch) ...", file=sys.stderr)
    from studies.trial import parameter_help

    return parameter_help


def _class_path(section: dict[str, Any] | None) -> str | None:
    return None if section is None else str(section["class_path"])


def help_of(argv: list[str]) -> int:
    """`harness train NAME --help`: the command's options, then every parameter with its docstring."""
    name = next((item for item in argv[1:] if not item.startswith("-")), None)
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    subparsers.choices[argv[0]].print_help()
    if name is not None:
        experiment = load(name)
        parameter_help = _parameter_help(experiment)
        show(f"\nParameters of {experiment.name}, with its values as defaults:\n")
        show(parameter_help.help_of(experiment.sections))
    return 0


def _named(model: str) -> str:
    """A model's name for `find`: paths as they are, other names of runs resolved."""
    from studies.cli.commands import named_run

    return model if Path(model).is_file() or model.endswith(".ckpt") else named_run(model)


def predict(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import predict as asking

    model = _named(options.model)
    return output.predicted(asking.ask(model, options.inputs, options.trust), options.json)


def export(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import export as exporting

    model = _named(options.model)
    return output.exported(exporting.export(model, options.format, options.output, options.trust), options.json)


def demo(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    model = None if options.model is None else _named(options.model)
    return report.demo(model, options.host, options.port, not options.no_open, options.json, options.trust)


def doctor(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.doctor(options.storage, options.fix, options.json)


def ui(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.port is not None and not 1 <= options.port <= 65535:
        raise BadInput(f"port must be between 1 and 65535, but got port={options.port}")
    from studies.cli import commands as report

    return report.ui(options.experiment, options.host, options.port, not options.no_open, options.json)
