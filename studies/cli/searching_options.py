"""Options of `harness study`, `extend` and `confirm`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from studies.config.checks import PRUNERS, SAMPLERS


def add_searching(
    command: Callable[..., argparse.ArgumentParser], experiment: str
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    """Adds the three commands and returns them.

    Args:
        command: adds one of a name, with its help.
        experiment: help on the name of an experiment.
    """
    study = command("study", "search an experiment's space until there are N trials in total; run again to resume")
    study.add_argument("experiment", metavar="NAME", help=experiment)
    study.add_argument("--trials", type=int, default=10, help="total number of trials, at least 1 (default: 10)")
    study.add_argument(
        "--workers", type=int, help="trials to run at once, at least 1 (default: 1; as many as fit with --executor ray)"
    )
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
    study.add_argument(
        "--enqueue",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="run a trial with these values first, e.g. model.learning_rate=0.01,data.batch_size=64, once; parameters "
        "that are not given are drawn; may be repeated",
    )
    study.add_argument(
        "--from-study",
        metavar="STUDY",
        help="let the sampler (tpe or gp) learn from the results of another study, too, which do not count as trials",
    )
    study.add_argument("--no-test", action="store_true", help="do not evaluate on the test set or register a champion")
    study.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    extend = command("extend", "train the best trials of a study for more epochs, in their existing runs")
    extend.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    extend.add_argument("--top", type=int, default=1, metavar="K", help="how many trials, at least 1 (default: 1)")
    extend.add_argument("--epochs", type=int, required=True, metavar="+N", help="how many more epochs, at least 1")
    extend.add_argument("--workers", type=int, default=1, help="trials to run at once, at least 1 (default: 1)")
    extend.add_argument("--no-test", action="store_true", help="do not evaluate on the test set or register a champion")
    extend.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")

    confirm = command(
        "confirm",
        "train a study's best trials and the experiment's defaults on fresh seeds, and say what is really better",
    )
    confirm.add_argument("study", metavar="STUDY", help="name of the study (`harness runs` shows them)")
    confirm.add_argument("--top", type=int, default=2, metavar="K", help="how many trials, at least 1 (default: 2)")
    confirm.add_argument(
        "--seeds",
        type=int,
        default=10,
        metavar="N",
        help="fresh seeds for each, at least 2 (default: 10); again with more adds to those that there are",
    )
    confirm.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with the experiment's own values, too (default: yes)",
    )
    confirm.add_argument("--workers", type=int, default=1, help="runs at once, at least 1 (default: 1)")
    confirm.add_argument("--no-test", action="store_true", help="do not test or register the winner")
    confirm.add_argument("--storage", metavar="URL", help="Optuna's database (default: mlruns/optuna.db)")
    return study, extend, confirm
