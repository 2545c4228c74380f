"""The command `harness`: parses, prints, exits. Everything heavy is imported inside the command that needs it.

Exit status: 0 done, 1 the work failed, 2 bad input, 130 or 143 interrupted. With --json the last line of
stdout is one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any, NoReturn

from studies.experiment import PRUNERS, SAMPLERS, Experiment, load, one_of, override, shipped
from studies.nearest import nearest

OVERRIDE = re.compile(r"--((?:model|data|trainer)\.[\w.]+)(?:=(.*))?$", re.DOTALL)


class BadInput(ValueError):
    """What the user typed is wrong; the message says how, in one line."""


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line, with the nearest right spelling."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            allowed = re.findall(r"[\w-]+", choice.group(2))
            raise BadInput(f"unknown command {choice.group(1)}{nearest(choice.group(1), allowed)}")
        raise BadInput(message)


def build_parser() -> Parser:
    parser = Parser(
        prog="harness",
        description="Train Lightning modules, search them with Optuna, track every run in MLflow.",
        epilog="Any parameter of an experiment can be overridden: --model.learning_rate 0.01 --trainer.max_epochs 3. "
        "`harness train NAME --help` lists them.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, help: str) -> Parser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        sub.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout")
        return sub

    command("list", "list the experiments, with model, data and search space")
    overrides = "an experiment's name (`harness list`) or the path of a .yaml file"

    train = command("train", "train an experiment once and meet the test set with its best checkpoint")
    train.add_argument("experiment", metavar="NAME", help=overrides)
    train.add_argument("--seed", type=int, help="training seed: weights, order of samples (default: the file's)")
    train.add_argument("--no-test", action="store_true", help="leave the test set alone")

    study = command("study", "search an experiment's space until there are N trials in total; again goes on")
    study.add_argument("experiment", metavar="NAME", help=overrides)
    study.add_argument("--trials", type=int, default=10, help="trials in total, from 1 (default: 10)")
    study.add_argument("--workers", type=int, default=1, help="trials at once, from 1 (default: 1)")
    study.add_argument("--study-name", metavar="S", help="name of the study (default: the experiment's)")
    study.add_argument("--sampler", help=f"{' | '.join(SAMPLERS)} (default: the file's)")
    study.add_argument("--pruner", help=f"{' | '.join(PRUNERS)} (default: the file's)")
    study.add_argument("--seed", type=int, help="study seed: each trial's seed follows from it (default: the file's)")
    study.add_argument(
        "--timeout", type=float, metavar="T", help="seconds after which running trials stop; again goes on"
    )
    study.add_argument(
        "--trial-timeout", type=float, metavar="T", help="seconds without an event after which a trial has failed"
    )
    study.add_argument(
        "--max-failures", type=int, default=10, metavar="N", help="failed trials in a row that end it (default: 10)"
    )
    study.add_argument("--retry-failed", action="store_true", help="run trials that failed again, as new trials")
    study.add_argument(
        "--no-test", action="store_true", help="leave the test set alone and register no champion at the end"
    )
    study.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")
    for sub in (train, study):
        sub.add_argument(
            "--executor", default="local", help="local | inline: this process, for debuggers (default: local)"
        )

    extend = command("extend", "let the best trials of a study go on for more epochs, in their own runs")
    extend.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    extend.add_argument("--top", type=int, default=1, metavar="K", help="how many trials, from 1 (default: 1)")
    extend.add_argument("--epochs", type=int, required=True, metavar="+N", help="how many epochs more, from 1")
    extend.add_argument("--workers", type=int, default=1, help="trials at once, from 1 (default: 1)")
    extend.add_argument("--no-test", action="store_true", help="leave the test set alone and register no champion")
    extend.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    runs = command("runs", "list runs, newest first")
    runs.add_argument("--experiment", help="only this experiment's")
    runs.add_argument("--study", help="only this study's")
    runs.add_argument("--limit", type=int, default=50, help="at most so many, from 1 (default: 50)")

    compare = command("compare", "show runs side by side: the parameters that differ, and the metrics")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run ids, or beginnings of them")

    doctor = command("doctor", "compare databases, runs, trials, files and processes; exit 1 where they disagree")
    doctor.add_argument("--fix", action="store_true", help="mend what is found; no result is deleted")
    doctor.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    ui = command("ui", "open MLflow on a prepared view of an experiment")
    ui.add_argument("experiment", metavar="NAME", nargs="?", help="the experiment to open (default: the newest)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    ui.add_argument("--port", type=int, help="port (default: 5000, or a free one)")
    ui.add_argument("--no-open", action="store_true", help="only print the address")
    return parser


def split_overrides(argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """Takes --model.X v, --data.X v and --trainer.X v (also with =) out of the arguments."""
    rest, overrides = [], {}
    arguments = iter(argv)
    for argument in arguments:
        match = OVERRIDE.match(argument)
        if not match:
            rest.append(argument)
            continue
        name, value = match.groups()
        if value is None:
            value = next(arguments, "--")
        if value.startswith("--"):
            raise BadInput(f"--{name} needs a value")
        overrides[name] = value
    return rest, overrides


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    rest, overrides = split_overrides(argv)
    parser = build_parser()
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        chosen = subparsers.choices[options.command] if options.command else parser
        known = [name for action in chosen._actions for name in action.option_strings if name.startswith("--")]
        more = " or --model.X, --data.X, --trainer.X" if options.command in ("train", "study") else ""
        raise BadInput(f"unknown argument {unknown[0]}{nearest(unknown[0].split('=')[0], known)}{more}")
    if overrides and options.command not in ("train", "study"):
        raise BadInput(f"--{next(iter(overrides))} belongs to train and study, not to {options.command}")
    return options, overrides


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    as_json = "--json" in argv
    try:
        if argv[:1] in (["train"], ["study"]) and {"--help", "-h"} & set(argv) and len(argv) > 2:
            return _help(argv)
        options, overrides = parse(argv)
        if options.command is None:
            build_parser().print_help()
            return 2
        return COMMANDS[options.command](options, overrides, argv)
    except ValueError as error:
        return _fail(str(error), 2, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except OSError as error:
        return _fail(f"{type(error).__name__}: {error}", 1, as_json)
    except Exception as error:
        if type(error).__name__ in ("WorkFailed", "StorageFailed"):
            return _fail(str(error), 1, as_json)
        raise


def _fail(message: str, status: int, as_json: bool) -> int:
    error, _, hint = message.partition("; did you mean ")
    line = " ".join(message.split())
    print(f"harness: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error, "hint": f"did you mean {hint}" if hint else ""}))
    return status


def _load(options: argparse.Namespace, overrides: dict[str, str]) -> Experiment:
    from studies.experiment import checked_seed

    experiment = load(options.experiment)
    override(experiment, overrides)
    if options.seed is not None:
        experiment.seed = checked_seed(options.seed)
    # The user's own modules lie beside the experiment file or where the user stands; ours come first.
    sys.path.extend(folder for folder in (str(experiment.path.parent), _here()) if folder not in sys.path)
    one_of("executor", options.executor, ("local", "inline"))
    return experiment


def _here() -> str:
    from pathlib import Path

    return str(Path.cwd())


def _at_least(name: str, value: float, low: float = 1) -> None:
    if not value >= low:
        raise BadInput(f"{name} must be at least {low}, but got {name}={value}")


def _list(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiments = [load(name) for name in shipped()]
    if options.json:
        print(json.dumps({"experiments": [_listed(item) for item in experiments]}))
        return 0
    for item in experiments:
        print(f"{item.name}\n    {item.description}")
        print(f"    model {item.model['class_path']}  data {item.data['class_path']}")
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
        "data": item.data["class_path"],
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
        sys.path.extend([str(experiment.path.parent), _here()])
        print("\nreading the parameters' types and docstrings (imports torch) ...", file=sys.stderr)
        from studies.arguments import help_of

        print(f"\nParameters of {experiment.name}, with its values as defaults:\n")
        print(help_of(experiment.sections))
    return 0


def _train(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = _load(options, overrides)
    from studies import driver, report

    result = driver.train(experiment, driver.Options(argv, executor=options.executor, test=not options.no_test))
    return report.trained(result, options.json)


def _study(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = _load(options, overrides)
    _at_least("trials", options.trials)
    _at_least("workers", options.workers)
    _at_least("max-failures", options.max_failures)
    for name, seconds in {"timeout": options.timeout, "trial-timeout": options.trial_timeout}.items():
        if seconds is not None:
            _at_least(name, seconds)
    if options.study_name is not None and not re.fullmatch(r"[\w][\w.-]{0,99}", options.study_name):
        raise BadInput(f"study-name must be letters, digits, '.', '_' and '-', but got {options.study_name!r}")
    if options.executor == "inline" and options.workers != 1:
        raise BadInput(f"workers must be 1 with the inline executor, but got workers={options.workers}")
    if experiment.search is not None:
        if options.sampler is not None:
            experiment.search.sampler = one_of("sampler", options.sampler, SAMPLERS)
        if options.pruner is not None:
            experiment.search.pruner = one_of("pruner", options.pruner, PRUNERS)
    from studies import driver, report

    result = driver.study(
        experiment,
        driver.Options(
            argv,
            workers=options.workers,
            executor=options.executor,
            test=not options.no_test,
            trials=options.trials,
            timeout=options.timeout,
            trial_timeout=options.trial_timeout,
            max_failures=options.max_failures,
            retry_failed=options.retry_failed,
            study_name=options.study_name,
            storage=options.storage,
        ),
    )
    return report.studied(result, options.json)


def _extend(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    for name in ("top", "epochs", "workers"):
        _at_least(name, getattr(options, name))
    from studies import driver, report

    how = driver.Options(argv, workers=options.workers, test=not options.no_test, storage=options.storage)
    return report.studied(driver.extend(options.study, options.top, options.epochs, how), options.json)


def _runs(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    _at_least("limit", options.limit)
    from studies import report

    return report.runs(options.experiment, options.study, options.limit, options.json)


def _compare(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies import report

    return report.compare(options.runs, options.json)


def _doctor(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies import report

    return report.doctor(options.storage, options.fix, options.json)


def _ui(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.port is not None and not 1 <= options.port <= 65535:
        raise BadInput(f"port must be between 1 and 65535, but got port={options.port}")
    from studies import report

    return report.ui(options.experiment, options.host, options.port, not options.no_open, options.json)


COMMANDS = {
    "list": _list,
    "train": _train,
    "study": _study,
    "extend": _extend,
    "runs": _runs,
    "compare": _compare,
    "doctor": _doctor,
    "ui": _ui,
}


if __name__ == "__main__":
    raise SystemExit(main())
