"""`harness completion`, and the answers to a shell that completes a command line, by argcomplete.

The shell's script calls `harness` with the line in its environment; see `complete`. What is special here: names from
the state folder, and the parameters of the experiment on the line, which are no options of the parser.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

from studies.cli.parser import OVERRIDABLE, OVERRIDE, build_parser
from studies.cli.streams import show

ASKED = "_ARGCOMPLETE"  # variable: set if a shell asks
Names = Callable[[argparse.Namespace], Iterable[str]]


def completion(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    import argcomplete

    from studies.cli.output import print_json

    script = argcomplete.shellcode(["harness"], shell=options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        show(script)
    return 0


def complete() -> None:
    """Answers the shell that asks, and exits."""
    import argcomplete

    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "0")
    *_, words, _ = argcomplete.split_line(line, int(point))
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in subparsers.choices.items():
        for action in command._actions:
            _complete_by(name, action)
    if len(words) > 1 and words[1] in OVERRIDABLE:
        _add_parameters(subparsers.choices[words[1]], words[1:])
    argcomplete.autocomplete(parser, always_complete_options=False)


def _add_parameters(command: argparse.ArgumentParser, words: list[str]) -> None:
    """Adds the parameters of the experiment on the line, and others that are given there, as options."""
    from studies.cli import known_names

    given = [match[1] for match in map(OVERRIDE.match, words) if match]
    for name in dict.fromkeys([*known_names.parameters(words), *given]):
        action = command.add_argument(f"--{name}", dest="parameter", metavar="VALUE", help="")
        action.completer = _nothing  # type: ignore[attr-defined]


def _nothing(**_: object) -> tuple[str, ...]:
    """Completes a value of which no more is known; without it, files would be suggested."""
    return ()


def _complete_by(command: str, action: argparse.Action) -> None:
    """Says what completes an argument of a command: names, files with some endings, or both; else nothing."""
    from argcomplete.completers import FilesCompleter

    names = _names().get(action.dest)
    endings = {"config": (".yaml", ".yml"), "model": (".ckpt",)}.get(action.dest, ())
    if command in ("train", "study", "describe", "lr", "batch-size", "forecast") and action.dest == "experiment":
        endings = (".yaml", ".yml")
    if action.choices or action.dest in ("inputs", "output"):  # the parser's choices, and files of any name
        return
    files = FilesCompleter(endings) if endings else _nothing

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
        found = names(parsed_args) if names is not None else {}
        described = found if isinstance(found, dict) else dict.fromkeys(found, "")
        return {**described, **dict.fromkeys(files(prefix=prefix), "")}

    action.completer = completer  # type: ignore[attr-defined]


def _names() -> dict[str, Names]:
    """Argument of a command -> the names that it takes, with descriptions if there are any."""
    from studies.cli import known_names, schema
    from studies.cli.inspecting_options import REPLAYED
    from studies.config.checks import EXECUTORS, PRUNERS, SAMPLERS

    def studies_and_runs(options: argparse.Namespace) -> dict[str, str]:
        return {**dict.fromkeys(known_names.studies(options.storage), "a study"), **known_names.runs()}

    of_run = dict.fromkeys(("run", "runs", "origin", "model", "run_a", "run_b"), lambda options: known_names.runs())
    return {
        **of_run,
        "experiment": lambda options: known_names.experiments(),
        "study": lambda options: known_names.studies(getattr(options, "storage", None)),
        "names": studies_and_runs,
        "of": lambda options: schema.names(),
        "sampler": lambda options: SAMPLERS,
        "pruner": lambda options: PRUNERS,
        "pruners": lambda options: PRUNERS,
        "samplers": lambda options: REPLAYED,
        "executor": lambda options: EXECUTORS,
        "split": lambda options: ("val", "test"),
        "format": lambda options: ("onnx", "pt2", "safetensors"),
    }
