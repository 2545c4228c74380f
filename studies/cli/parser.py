"""The command line: commands, options, and overrides of an experiment's parameters."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from studies.cli.bad_input import BadInput
from studies.cli.cluster_options import add_executor
from studies.cli.inspecting_options import RUN, add_inspecting
from studies.cli.replaying_options import add_replaying
from studies.cli.run_names import add_names
from studies.cli.searching_options import add_searching
from studies.cli.seeds import add_seeds
from studies.cli.training_options import add_training
from studies.cli.usual_names import USUAL
from studies.common.suggestions import did_you_mean

OVERRIDE = re.compile(
    r"--((?:model|data|trainer|optimizer|lr_scheduler|function)\.[^\s=]+|model|data|optimizer|lr_scheduler)(?:=(.*))?$",
    re.DOTALL,
)


OVERRIDABLE = ("train", "study", "resume", "lr", "batch-size", "forecast")  # commands


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest the closest spelling."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            kind, given, listed = choice.groups()
            allowed = re.findall(r"[\w-]+", listed)
            raise BadInput(f"unknown {kind.lower()} {given}{did_you_mean(given, allowed)}")
        raise BadInput(message)


def build_parser() -> Parser:
    parser = Parser(
        prog="harness",
        description="Train Lightning modules, search them with Optuna, track every run in MLflow.",
        epilog="Any parameter of an experiment can be overridden: --model.learning_rate 0.01 --trainer.max_epochs 3. "
        "`harness train NAME --help` lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="the versions of harness and its libraries")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, help: str, answers: bool = True) -> Parser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        if answers:
            sub.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout")
        return sub

    command("list", "list the experiments, with model, data and search space")
    overrides = "name of an experiment (see `harness list`) or path of a .yaml file"

    train = command("train", "train an experiment once and evaluate its best checkpoint on the test set")
    train.add_argument("experiment", metavar="NAME", nargs="?", help=overrides)
    train.add_argument("--seed", type=int, help="training seed: weights, order of samples (default: the file's)")
    add_seeds(train)
    train.add_argument("--no-test", action="store_true", help="do not evaluate on the test set")

    train.add_argument(
        "--from",
        dest="origin",
        metavar="RUN",
        help=f"the configuration and seed of a run instead of NAME: {RUN}",
    )

    resume = command("resume", "continue an interrupted or failed run of `train`, or train a finished one further")
    resume.add_argument(
        "run",
        metavar="RUN",
        help="run id or a prefix of it, or latest; a finished run needs a later limit, --trainer.max_epochs N; trials "
        "are resumed by repeating the command of their study",
    )
    resume.add_argument("--no-test", action="store_true", help="do not evaluate on the test set")

    add_replaying(command)
    study, extend, confirm = add_searching(command, overrides)
    for sub in (train, study):
        add_names(sub)
        sub.add_argument(
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="a .yaml file that overrides values of NAME; may be repeated",
        )
        add_executor(sub)

    for sub in (train, resume, study, extend, confirm):
        add_training(sub)
    add_inspecting(command)
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
        known = [name[2:] for action in chosen._actions for name in action.option_strings if name.startswith("--")]
        more = " or --model.X, --data.X, --trainer.X" if options.command in OVERRIDABLE else ""
        wanted = unknown[0].split("=")[0].lstrip("-")
        usual = USUAL.get(wanted.replace("_", "-"))
        if usual is not None and options.command in OVERRIDABLE:
            raise BadInput(f"unknown argument {unknown[0]}; did you mean --{usual}?")
        raise BadInput(f"unknown argument {unknown[0]}{did_you_mean(wanted, known, '--')}{more}")
    if overrides and options.command not in OVERRIDABLE:
        these = f"{', '.join(OVERRIDABLE[:-1])} and {OVERRIDABLE[-1]}"
        raise BadInput(f"--{next(iter(overrides))} applies to {these}, not to {options.command}")
    return options, overrides
