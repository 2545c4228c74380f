"""`harness train`, `study` and `extend`: checks the command line and calls the driver."""

from __future__ import annotations

import argparse
import re

from studies.cli.parser import BadInput
from studies.common.plain import is_plain
from studies.common.search_path import use
from studies.config.checks import EXECUTORS, PRUNERS, SAMPLERS, named
from studies.config.experiment import Experiment, load, override


def load_experiment(options: argparse.Namespace, overrides: dict[str, str]) -> Experiment:
    """The named experiment, with overrides applied."""
    from studies.config.checks import checked_seed

    experiment = load(options.experiment, options.config)
    override(experiment, overrides)
    if options.seed is not None:
        experiment.seed = checked_seed(options.seed)
    use(experiment.search_path)  # for a space given as a function
    if options.executor is not None:
        experiment.executor = named("executor", options.executor, EXECUTORS)
    return experiment


def _threads(options: argparse.Namespace) -> int:
    """--threads, or 0 to let the executor decide."""
    if options.threads is None:
        return 0
    at_least("threads", options.threads)
    return int(options.threads)


def at_least(name: str, value: float, low: float = 1) -> None:
    if not value >= low:
        raise BadInput(f"{name} must be at least {low}, but got {name}={value}")


def train(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = load_experiment(options, overrides)
    threads = _threads(options)
    from studies.cli import output
    from studies.driver import train as driver
    from studies.driver.session import Options

    how = Options(argv, threads=threads, executor=experiment.executor, test=not options.no_test)
    result = driver.train(experiment, how)
    return output.trained(result, options.json)


def study(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = load_experiment(options, overrides)
    at_least("trials", options.trials)
    at_least("workers", options.workers)
    at_least("pack", options.pack)
    at_least("max-failures", options.max_failures)
    threads = _threads(options)
    for name, seconds in {"timeout": options.timeout, "trial-timeout": options.trial_timeout}.items():
        if seconds is not None:
            at_least(name, seconds)
    if options.study_name is not None and not re.fullmatch(r"[\w][\w.-]{0,99}", options.study_name):
        raise BadInput(f"study-name must be letters, digits, '.', '_' and '-', but got {options.study_name!r}")
    if experiment.executor == "inline" and options.workers != 1:
        raise BadInput(f"workers must be 1 with the inline executor, but got workers={options.workers}")
    if experiment.executor == "inline" and options.pack != 1:
        raise BadInput(f"pack must be 1 with the inline executor, but got pack={options.pack}")
    if is_plain() and options.pack != 1:
        raise BadInput(f"pack must be 1 with --plain (HARNESS_PLAIN), but got pack={options.pack}")
    if experiment.search is not None:
        if options.sampler is not None:
            experiment.search.sampler = named("sampler", options.sampler, SAMPLERS)
        if options.pruner is not None:
            experiment.search.pruner = named("pruner", options.pruner, PRUNERS)
    from studies.cli import output
    from studies.driver import commands as driver
    from studies.driver.session import Options

    result = driver.run_study(
        experiment,
        Options(
            argv,
            workers=options.workers,
            threads=threads,
            pack=options.pack,
            executor=experiment.executor,
            test=not options.no_test,
            trials=options.trials,
            timeout=options.timeout,
            trial_timeout=options.trial_timeout,
            max_failures=options.max_failures,
            retry_failed=options.retry_failed,
            study_name=options.study_name,
            storage=options.storage,
            trust=options.trust,
        ),
    )
    return output.studied(result, options.json)


def extend(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    for name in ("top", "epochs", "workers"):
        at_least(name, getattr(options, name))
    threads = _threads(options)
    from studies.cli import output
    from studies.driver import commands as driver
    from studies.driver.session import Options

    test = not options.no_test
    how = Options(
        argv, workers=options.workers, threads=threads, test=test, storage=options.storage, trust=options.trust
    )
    return output.studied(driver.extend(options.study, options.top, options.epochs, how), options.json)
