"""What may be typed: the commands, their options, and overrides of an experiment's parameters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from studies.common.suggestions import nearest
from studies.config.checks import EXECUTORS, PRUNERS, SAMPLERS

OVERRIDE = re.compile(
    r"--((?:model|data|trainer|optimizer|lr_scheduler)\.[^\s=]+|model|data|optimizer|lr_scheduler)(?:=(.*))?$",
    re.DOTALL,
)


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
    study.add_argument(
        "--pack",
        type=int,
        default=1,
        metavar="K",
        help="up to K trials of equal shapes and batch size train as one model in each worker, where that is faster: "
        "small models on a GPU, if any; a sampler that learns hears of all K at once (default: 1)",
    )
    study.add_argument("--study-name", metavar="S", help="name of the study (default: the experiment's)")
    study.add_argument("--sampler", help=f"{' | '.join(SAMPLERS)}, or a class of your own (default: the file's)")
    study.add_argument("--pruner", help=f"{' | '.join(PRUNERS)}, or a class of your own (default: the file's)")
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
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="a .yaml file laid over NAME; any number of them",
        )
        sub.add_argument(
            "--executor",
            help=f"{' | '.join(EXECUTORS)} (this process, for debuggers), or a class of your own (default: the file's, "
            "or local)",
        )

    extend = command("extend", "let the best trials of a study go on for more epochs, in their own runs")
    extend.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    extend.add_argument("--top", type=int, default=1, metavar="K", help="how many trials, from 1 (default: 1)")
    extend.add_argument("--epochs", type=int, required=True, metavar="+N", help="how many epochs more, from 1")
    extend.add_argument("--workers", type=int, default=1, help="trials at once, from 1 (default: 1)")
    extend.add_argument("--no-test", action="store_true", help="leave the test set alone and register no champion")
    extend.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    for sub in (train, study, extend):
        sub.add_argument(
            "--threads", type=int, help="CPU threads of each trial, from 1 (default: the cores, shared out)"
        )
        sub.add_argument(
            "--plain", action="store_true", help="without acceleration: Lightning's own loop (as HARNESS_PLAIN=1)"
        )

    _inspecting(command)
    return parser


def _inspecting(command: Callable[..., Parser]) -> None:
    """Options of the commands that train nothing."""
    runs = command("runs", "list runs, newest first")
    runs.add_argument("--experiment", help="only this experiment's")
    runs.add_argument("--study", help="only this study's")
    runs.add_argument("--limit", type=int, default=50, help="at most so many, from 1 (default: 50)")

    compare = command("compare", "show runs side by side: the parameters that differ, and the metrics")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run ids, or beginnings of them")

    predict = command("predict", "ask a trained model about image files, words or the rows of CSV files")
    predict.add_argument(
        "model", metavar="MODEL", help="run id or its beginning, path of a checkpoint, or models:/NAME@champion"
    )
    predict.add_argument("inputs", metavar="INPUT", nargs="*", help="files or words (default: one a line from stdin)")

    export = command("export", "write a trained model to a file for other programs, and check the file")
    export.add_argument(
        "model", metavar="MODEL", help="run id or its beginning, path of a checkpoint, or models:/NAME@champion"
    )
    export.add_argument(
        "--format", required=True, help="onnx | pt2 (torch.export) | safetensors (the weights, for the module's source)"
    )
    export.add_argument("--output", metavar="PATH", help="file to write (default: ./EXPERIMENT-RUN.FORMAT)")

    demo = command("demo", "draw a digit or type a word on a page, and watch trained models answer")
    demo.add_argument(
        "model", metavar="MODEL", nargs="?", help="as for predict (default: the newest for drawings, and for words)"
    )
    demo.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    demo.add_argument("--port", type=int, help="port (default: 8000, or a free one)")
    demo.add_argument("--no-open", action="store_true", help="only print the address")

    doctor = command("doctor", "compare databases, runs, trials, files and processes; exit 1 where they disagree")
    doctor.add_argument("--fix", action="store_true", help="mend what is found; no result is deleted")
    doctor.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

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
        known = [name for action in chosen._actions for name in action.option_strings if name.startswith("--")]
        more = " or --model.X, --data.X, --trainer.X" if options.command in ("train", "study") else ""
        raise BadInput(f"unknown argument {unknown[0]}{nearest(unknown[0].split('=')[0], known)}{more}")
    if overrides and options.command not in ("train", "study"):
        raise BadInput(f"--{next(iter(overrides))} belongs to train and study, not to {options.command}")
    return options, overrides
