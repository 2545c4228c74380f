"""Commands that do not train: listing runs, using trained models, and MLflow's UI."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from studies.cli.parser import BadInput, build_parser
from studies.cli.streams import show
from studies.cli.training import at_least
from studies.common import lightning_alias
from studies.common.search_path import use
from studies.common.strict_json import json_line
from studies.config.experiment import Experiment, load, shipped


def list_experiments(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiments = [load(name) for name in shipped()]
    if options.json:
        print(json_line({"experiments": [_listed(item) for item in experiments]}))
        return 0
    for item in experiments:
        show(f"{item.name}\n    {item.description}")
        show(f"    model {item.model['class_path']}  data {(item.data or {}).get('class_path')}")
        if item.search:
            show(f"    space {', '.join(item.search.space)}  by {item.search.metric} ({item.search.direction})")
    show("\nnext: harness train NAME, or harness study NAME --trials 20 --workers 2")
    return 0


def _listed(item: Experiment) -> dict[str, Any]:
    search = item.search
    return {
        "name": item.name,
        "description": item.description,
        "model": item.model["class_path"],
        "data": (item.data or {}).get("class_path"),
        "space": search.space_as_written if search else None,
        "metric": search.metric if search else None,
    }


def help_of(argv: list[str]) -> int:
    """`harness train NAME --help`: the command's options, then every parameter with its docstring."""
    name = next((item for item in argv[1:] if not item.startswith("-")), None)
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    subparsers.choices[argv[0]].print_help()
    if name is not None:
        experiment = load(name)
        lightning_alias.install()
        use(experiment.search_path)
        show("\nreading the parameters' types and docstrings (imports torch) ...", file=sys.stderr)
        from studies.trial import parameter_help

        show(f"\nParameters of {experiment.name}, with its values as defaults:\n")
        show(parameter_help.help_of(experiment.sections))
    return 0


def runs(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("limit", options.limit)
    from studies.cli import commands as report

    return report.runs(options.experiment, options.study, options.limit, options.json)


def compare(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.compare(options.runs, options.json)


def predict(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import predict as asking

    return output.predicted(asking.ask(options.model, options.inputs, options.trust), options.json)


def export(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import export as exporting

    return output.exported(exporting.export(options.model, options.format, options.output, options.trust), options.json)


def demo(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.demo(options.model, options.host, options.port, not options.no_open, options.json, options.trust)


def doctor(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.doctor(options.storage, options.fix, options.json)


def ui(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.port is not None and not 1 <= options.port <= 65535:
        raise BadInput(f"port must be between 1 and 65535, but got port={options.port}")
    from studies.cli import commands as report

    return report.ui(options.experiment, options.host, options.port, not options.no_open, options.json)
