"""`harness forecast`: the time and the money that a study takes, before it starts. No run is created."""

from __future__ import annotations

import argparse
import math

from studies.cli.bad_input import BadInput
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.cli.training import at_least, load_experiment, threads_of


def forecast(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("trials", options.trials)
    at_least("workers", options.workers)
    if options.price is not None and not (math.isfinite(options.price) and options.price >= 0):
        raise BadInput(f"price must be at least 0, per hour, but got price={options.price}")
    experiment = load_experiment(options, overrides)
    threads = threads_of(options)
    from studies.driver import forecasting
    from studies.driver.session import Options

    executor = "local" if experiment.executor == "inline" else experiment.executor  # inline cannot stop a trial
    how = Options(argv, trials=options.trials, workers=options.workers, threads=threads, executor=executor)
    found = forecasting.forecast(experiment, how)
    price = options.price
    found["money"] = None if price is None else found["seconds"] / 3600 * price
    if options.json:
        print_json(found)
        return 0
    at_most = f", at most: {found['pruner']} ends trials early" if found["pruner"] != "none" else ""
    show(f"time       {_time(found['seconds'])}, 80% between {_time(found['low'])} and {_time(found['high'])}{at_most}")
    many = f"{found['trials']} trials of {_time(found['trial_seconds'])} each, {found['workers']} at once"
    show(f"trials     {many}; start and end {_time(found['seconds'] - _of_trials(found))}")
    show(f"processor  {found['cpu_hours']:.2g} CPU-hours at most")
    if found["money"] is not None:
        show(f"money      {found['money']:.2f}, at {price:g} per hour")
    show(f"measured   {found['measured']} trials, {found['finished']} of them to their end")
    return 0


def _of_trials(found: dict[str, float]) -> float:
    return math.ceil(found["trials"] / found["workers"]) * found["trial_seconds"]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
