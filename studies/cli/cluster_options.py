"""--executor, and where the executor ray finds machines and how much of them a trial takes."""

from __future__ import annotations

import argparse
from typing import Any

from studies.cli.bad_input import BadInput, at_least
from studies.config.checks import EXECUTORS, named

RAY = "studies.executors.ray_cluster.RayExecutor"
OPTIONS = {"ray_address": "address", "cpus_per_trial": "cpus", "gpus_per_trial": "gpus"}


def add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        help=f"{' | '.join(EXECUTORS)}: processes of this machine, this process itself (for debuggers) or a Ray "
        "cluster; or a class of your own (default: the file's, or local)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="auto|HOST:PORT",
        help="with --executor ray: a running cluster (default: $RAY_ADDRESS, or a new one of this machine alone)",
    )
    parser.add_argument(
        "--cpus-per-trial", type=float, metavar="N", help="with --executor ray: CPUs of each trial (default: 1)"
    )
    parser.add_argument(
        "--gpus-per-trial",
        type=float,
        metavar="N",
        help="with --executor ray: GPUs of each trial; 0.5 lets two share one (default: 0)",
    )


def is_ray(executor: str | dict[str, Any]) -> bool:
    return executor == "ray" or (isinstance(executor, dict) and executor["class_path"] == RAY)


def executor_of(options: argparse.Namespace, from_file: str | dict[str, Any]) -> str | dict[str, Any]:
    """The executor that the command line or else the experiment file names.

    Raises:
        BadInput: it is unknown, or an option of ray stands without it.
    """
    chosen = from_file if options.executor is None else named("executor", options.executor, EXECUTORS)
    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name, None) is not None}
    if given and not is_ray(chosen):
        raise BadInput(f"--{next(iter(given)).replace('_', '-')} applies to --executor ray")
    if not given:
        return chosen
    arguments = (chosen.get("init_args") or {}) if isinstance(chosen, dict) else {}
    return {"class_path": RAY, "init_args": {**arguments, **{OPTIONS[name]: value for name, value in given.items()}}}


def workers_of(options: argparse.Namespace, executor: str | dict[str, Any]) -> int:
    """--workers; without it 1, or 0 for an executor that runs as many trials as fit."""
    if options.workers is None:
        return 0 if is_ray(executor) else 1
    at_least("workers", options.workers)
    return int(options.workers)
