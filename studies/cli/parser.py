"""The command line: commands, options, and overrides of an experiment's parameters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from studies.common.suggestions import did_you_mean
from studies.config.checks import EXECUTORS, PRUNERS, SAMPLERS

OVERRIDE = re.compile(
    r"--((?:model|data|trainer|optimizer|lr_scheduler)\.[^\s=]+|model|data|optimizer|lr_scheduler)(?:=(.*))?$",
    re.DOTALL,
)


class BadInput(ValueError):
    """Invalid user input; the message explains it in one line."""


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest the closest spelling."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            allowed = re.findall(r"[\w-]+", choice.group(2))
            raise BadInput(f"unknown command {choice.group(1)}{did_you_mean(choice.group(1), allowed)}")
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
    overrides = "name of an experiment (see `harness list`) or path of a .yaml file"

    train = command("train", "train an experiment once and evaluate its best checkpoint on the test set")
    train.add_argument("experiment", metavar="NAME", help=overrides)
    train.add_argument("--seed", type=int, help="training seed: weights, order of samples (default: the file's)")
    train.add_argument("--no-test", action="store_true", help="do not evaluate on the test set")

    study = command("study", "search an experiment's space until there are N trials in total; run again to resume")
    study.add_argument("experiment", metavar="NAME", help=overrides)
    study.add_argument("--trials", type=int, default=10, help="total number of trials, at least 1 (default: 10)")
    study.add_argument("--workers", type=int, default=1, help="trials to run at once, at least 1 (default: 1)")
    study.add_argument(
        "--pack",
        type=int,
        default=1,
        metavar="K",
        help="train up to K trials of equal shapes and batch size as one model in each worker, if that is faster "
        "(small models on a GPU, if any); an adaptive sampler gets all K results at once (default: 1)",
    )
    study.add_argument("--study-name", metavar="S", help="name of the study (default: the experiment's)")
    study.add_argument("--sampler", help=f"{' | '.join(SAMPLERS)}, or a class of your own (default: the file's)")
    study.add_argument("--pruner", help=f"{' | '.join(PRUNERS)}, or a class of your own (default: the file's)")
    study.add_argument("--seed", type=int, help="study seed, from which trial seeds are derived (default: the file's)")
    study.add_argument("--timeout", type=float, metavar="T", help="stop after T seconds; run again to resume")
    study.add_argument("--trial-timeout", type=float, metavar="T", help="fail a trial after T seconds without an event")
    study.add_argument(
        "--max-failures", type=int, default=10, metavar="N", help="end after N failed trials in a row (default: 10)"
    )
    study.add_argument("--retry-failed", action="store_true", help="run failed trials again, as new trials")
    study.add_argument("--no-test", action="store_true", help="do not evaluate on the test set or register a champion")
    study.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")
    for sub in (train, study):
        sub.add_argument(
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="a .yaml file that overrides values of NAME; may be repeated",
        )
        sub.add_argument(
            "--executor",
            help=f"{' | '.join(EXECUTORS)} (this process, for debuggers), or a class of your own (default: the file's, "
            "or local)",
        )

    extend = command("extend", "train the best trials of a study for more epochs, in their existing runs")
    extend.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    extend.add_argument("--top", type=int, default=1, metavar="K", help="how many trials, at least 1 (default: 1)")
    extend.add_argument("--epochs", type=int, required=True, metavar="+N", help="how many more epochs, at least 1")
    extend.add_argument("--workers", type=int, default=1, help="trials to run at once, at least 1 (default: 1)")
    extend.add_argument("--no-test", action="store_true", help="do not evaluate on the test set or register a champion")
    extend.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    for sub in (train, study, extend):
        sub.add_argument(
            "--threads", type=int, help="CPU threads per trial, at least 1 (default: the cores, divided among workers)"
        )
        sub.add_argument(
            "--plain", action="store_true", help="no acceleration: Lightning's own loop (same as HARNESS_PLAIN=1)"
        )

    for sub in (study, extend):
        _trust(sub)
    _inspecting(command)
    return parser


def _trust(parser: Parser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="trust this state folder from now on: run the code that it names (classes, folders, pickles)",
    )


def _inspecting(command: Callable[..., Parser]) -> None:
    """Options of the commands that do not train."""
    runs = command("runs", "list runs, newest first")
    runs.add_argument("--experiment", help="only runs of this experiment")
    runs.add_argument("--study", help="only runs of this study")
    runs.add_argument("--limit", type=int, default=50, help="maximum number of runs, at least 1 (default: 50)")

    compare = command("compare", "show runs side by side: the parameters that differ, and the metrics")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run ids or prefixes of them")

    predict = command("predict", "predict for image files, words or the rows of CSV files with a trained model")
    predict.add_argument(
        "model", metavar="MODEL", help="run id or a prefix of it, path of a checkpoint, or models:/NAME@champion"
    )
    predict.add_argument("inputs", metavar="INPUT", nargs="*", help="files or words (default: one per line from stdin)")

    export = command("export", "export a trained model to a file for other programs, and verify the file")
    export.add_argument(
        "model", metavar="MODEL", help="run id or a prefix of it, path of a checkpoint, or models:/NAME@champion"
    )
    export.add_argument(
        "--format", required=True, help="onnx | pt2 (torch.export) | safetensors (weights only, needs the source)"
    )
    export.add_argument("--output", metavar="PATH", help="file to write (default: ./EXPERIMENT-RUN.FORMAT)")

    demo = command("demo", "open a page to draw a digit or type a word on, with live predictions")
    demo.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="as for predict (default: the newest for drawings, the newest for words)",
    )
    demo.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    demo.add_argument("--port", type=int, help="port (default: 8000, or a free one)")
    demo.add_argument("--no-open", action="store_true", help="only print the address")

    doctor = command("doctor", "check that databases, runs, trials, files and processes agree; exit status 1 if not")
    doctor.add_argument("--fix", action="store_true", help="repair what is found; no result is deleted")
    doctor.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    for sub in (predict, export, demo):
        _trust(sub)

    ui = command("ui", "open MLflow on a prepared view of an experiment")
    ui.add_argument("experiment", metavar="NAME", nargs="?", help="the experiment to open (default: the newest)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    ui.add_argument("--port", type=int, help="port (default: 5000, or a free one)")
    ui.add_argument("--no-open", action="store_true", help="only print the address")


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
        known = [name[2:] for action in chosen._actions for name in action.option_strings if name.startswith("--")]
        more = " or --model.X, --data.X, --trainer.X" if options.command in ("train", "study") else ""
        wanted = unknown[0].split("=")[0].lstrip("-")
        raise BadInput(f"unknown argument {unknown[0]}{did_you_mean(wanted, known, '--')}{more}")
    if overrides and options.command not in ("train", "study"):
        raise BadInput(f"--{next(iter(overrides))} applies to train and study, not to {options.command}")
    return options, overrides
