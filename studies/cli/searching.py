"""`harness study` and `extend`: checks the command line and calls the driver."""

from __future__ import annotations

import argparse
import re

from studies.cli.bad_input import BadInput, at_least
from studies.cli.cluster_options import is_ray, workers_of
from studies.cli.notifying import notifying
from studies.cli.run_names import tags_of
from studies.cli.training import load_experiment, threads_of
from studies.common.plain import is_plain
from studies.config.checks import PRUNERS, SAMPLERS, named
from studies.config.enqueued import assignments


def study(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = load_experiment(options, overrides)
    at_least("trials", options.trials)
    workers = workers_of(options, experiment.executor)
    at_least("pack", options.pack)
    at_least("max-failures", options.max_failures)
    threads = threads_of(options)
    for name, seconds in {"timeout": options.timeout, "trial-timeout": options.trial_timeout}.items():
        if seconds is not None:
            at_least(name, seconds)
    if options.study_name is not None and not re.fullmatch(r"[\w][\w.-]{0,99}", options.study_name):
        raise BadInput(f"study-name must be letters, digits, '.', '_' and '-', but got {options.study_name!r}")
    if experiment.executor == "inline" and workers != 1:
        raise BadInput(f"workers must be 1 with the inline executor, but got {workers=}")
    if (experiment.executor == "inline" or is_ray(experiment.executor)) and options.pack != 1:
        name = "inline" if experiment.executor == "inline" else "ray"
        raise BadInput(f"pack must be 1 with the {name} executor, but got pack={options.pack}")
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

    how = Options(
        argv,
        workers=workers,
        threads=threads,
        pack=options.pack,
        executor=experiment.executor,
        test=not options.no_test,
        trials=options.trials,
        timeout=options.timeout,
        trial_timeout=options.trial_timeout,
        max_failures=options.max_failures,
        retry_failed=options.retry_failed,
        enqueue=[assignments(text) for text in options.enqueue],
        from_study=options.from_study,
        study_name=options.study_name,
        name=options.name,
        tags=tags_of(options),
        storage=options.storage,
        trust=options.trust,
        quiet=options.quiet,
    )
    with notifying(options.notify, "study", options.study_name or experiment.name) as tell:
        tell(result := driver.run_study(experiment, how))
        return output.studied(result, options.json)


def extend(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    for name in ("top", "epochs", "workers"):
        at_least(name, getattr(options, name))
    threads = threads_of(options)
    from studies.cli import output
    from studies.driver import commands as driver
    from studies.driver.session import Options

    test = not options.no_test
    how = Options(
        argv, workers=options.workers, threads=threads, test=test, storage=options.storage, trust=options.trust
    )
    how.quiet = options.quiet
    with notifying(options.notify, "extend", options.study) as tell:
        tell(result := driver.extend(options.study, options.top, options.epochs, how))
        return output.studied(result, options.json)
