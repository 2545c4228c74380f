"""The command `harness`: calls what was asked for and exits. What is heavy is imported inside the command that
needs it.

Exit status: 0 done, 1 the work failed, 2 bad input, 130 or 143 interrupted, 141 nobody reads the output any more. With
--json the last line of stdout is one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import atexit
import signal
import sys
from typing import Any

try:
    from studies.cli.parser import BadInput, build_parser, parse
    from studies.cli.streams import is_deserted, leave, let_go_of, let_libraries_warn, prepare_streams
    from studies.cli.training import at_least, extend, study, train
    from studies.common.errors import StorageFailed, WorkFailed, chain
    from studies.common.plain import made_plain
    from studies.common.search_path import use
    from studies.common.strict_json import json_line
    from studies.config.experiment import Experiment, load, shipped
except KeyboardInterrupt:  # nobody is there yet to say it better
    raise SystemExit(130) from None


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    if argv is None:
        let_libraries_warn()
    prepare_streams()
    atexit.register(leave)
    try:
        status = _answer(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except OSError:  # not even what is wrong can be printed
        status = 1
    if any([let_go_of(stream) for stream in (sys.stdout, sys.stderr)]):
        status = 128 + signal.SIGPIPE
    if status == 130 and argv is None:  # once more ends what is left of it at once, and without a word
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return status


def _answer(argv: list[str]) -> int:
    as_json = "--json" in argv
    try:
        if argv[:1] in (["train"], ["study"]) and {"--help", "-h"} & set(argv) and len(argv) > 2:
            return _help(argv)
        options, overrides = parse(argv)
        if options.command is None:
            build_parser().print_help()
            return 2
        with made_plain(getattr(options, "plain", False)):
            return COMMANDS[options.command](options, overrides, argv)
    except ValueError as error:
        return _fail(str(error), 2, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and (is_deserted(sys.stdout) or is_deserted(sys.stderr)):
            raise
        return _fail(f"{type(error).__name__}: {error}", 1, as_json)
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in chain(error)):  # an import that it broke off
            return _fail("interrupted", 130, as_json)
        if isinstance(error, WorkFailed | StorageFailed):
            return _fail(str(error), 1, as_json)
        raise


def _fail(message: str, status: int, as_json: bool) -> int:
    error, _, hint = message.partition("; did you mean ")
    line = " ".join(message.split())
    print(f"harness: {line}", file=sys.stderr)
    if as_json:
        print(json_line({"error": error, "hint": f"did you mean {hint}" if hint else ""}))
    return status


def _list(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiments = [load(name) for name in shipped()]
    if options.json:
        print(json_line({"experiments": [_listed(item) for item in experiments]}))
        return 0
    for item in experiments:
        print(f"{item.name}\n    {item.description}")
        print(f"    model {item.model['class_path']}  data {(item.data or {}).get('class_path')}")
        if item.search:
            print(f"    space {', '.join(item.search.space)}  by {item.search.metric} ({item.search.direction})")
    print("\nnext: harness train NAME, or harness study NAME --trials 20 --workers 2")
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


def _help(argv: list[str]) -> int:
    """`harness train NAME --help`: the command's options, then every parameter with its docstring."""
    name = next((item for item in argv[1:] if not item.startswith("-")), None)
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    subparsers.choices[argv[0]].print_help()
    if name is not None:
        experiment = load(name)
        use(experiment.search_path)
        print("\nreading the parameters' types and docstrings (imports torch) ...", file=sys.stderr)
        from studies.trial.arguments import help_of

        print(f"\nParameters of {experiment.name}, with its values as defaults:\n")
        print(help_of(experiment.sections))
    return 0


def _runs(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("limit", options.limit)
    from studies.cli import commands as report

    return report.runs(options.experiment, options.study, options.limit, options.json)


def _compare(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.compare(options.runs, options.json)


def _predict(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import predict as asking

    return output.predicted(asking.ask(options.model, options.inputs), options.json)


def _export(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import output
    from studies.inference import export as exporting

    return output.exported(exporting.export(options.model, options.format, options.output), options.json)


def _demo(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.demo(options.model, options.host, options.port, not options.no_open, options.json)


def _doctor(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.cli import commands as report

    return report.doctor(options.storage, options.fix, options.json)


def _ui(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.port is not None and not 1 <= options.port <= 65535:
        raise BadInput(f"port must be between 1 and 65535, but got port={options.port}")
    from studies.cli import commands as report

    return report.ui(options.experiment, options.host, options.port, not options.no_open, options.json)


COMMANDS = {
    "list": _list,
    "train": train,
    "study": study,
    "extend": extend,
    "runs": _runs,
    "compare": _compare,
    "predict": _predict,
    "export": _export,
    "demo": _demo,
    "doctor": _doctor,
    "ui": _ui,
}


if __name__ == "__main__":
    raise SystemExit(main())
