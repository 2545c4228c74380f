"""`harness train` and `resume`: checks the command line and calls the driver."""

from __future__ import annotations

import argparse

from studies.cli.bad_input import BadInput, at_least
from studies.cli.cluster_options import executor_of
from studies.cli.notifying import notifying
from studies.cli.run_names import name_of, tags_of
from studies.cli.seeds import seeds_of
from studies.common.search_path import use
from studies.config.experiment import Experiment, load, override


def load_experiment(options: argparse.Namespace, overrides: dict[str, str]) -> Experiment:
    """The named experiment, with overrides applied."""
    from studies.config.checks import checked_seed
    from studies.driver.past_run import add_search_path, experiment_of, find_spec

    origin = getattr(options, "origin", None)
    if (origin is None) == (options.experiment is None):
        raise BadInput("train needs either NAME or --from RUN" + (", not both" if origin is not None else ""))
    if origin is None:
        experiment = load(options.experiment, options.config)
        add_search_path(experiment)
    elif options.config:
        raise BadInput("--config overrides values of NAME, so it cannot be combined with --from")
    else:
        from studies.common.state_folder import StateFolder

        spec = find_spec(origin, StateFolder.find(), options.trust)
        experiment = experiment_of(spec)
        options.origin = spec.run_id
    override(experiment, overrides)
    if options.seed is not None:
        experiment.seed = checked_seed(options.seed)
    use(experiment.search_path)  # for a space given as a function
    experiment.executor = executor_of(options, experiment.executor)
    return experiment


def threads_of(options: argparse.Namespace) -> int:
    """--threads, or 0 to let the executor decide."""
    if options.threads is None:
        return 0
    at_least("threads", options.threads)
    return int(options.threads)


def train(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    experiment = load_experiment(options, overrides)
    threads = threads_of(options)
    seeds = seeds_of(options, experiment.seed)
    from studies.cli import output
    from studies.driver import train as driver
    from studies.driver.session import Options

    tags = tags_of(options) | ({"harness.from": options.origin} if options.origin else {})
    name = name_of(options, overrides, options.origin)
    test = not options.no_test
    how = Options(argv, threads=threads, executor=experiment.executor, test=test, name=name, tags=tags)
    how.quiet = options.quiet
    with notifying(options.notify, "train", experiment.name) as tell:
        if seeds is not None:
            from studies.driver.seeds import Seeds, train_seeds

            how.workers = options.workers
            if how.name is not None and options.name is None:
                how.name = f"{how.name}, {len(seeds)} seeds"
            tell(result := train_seeds(experiment, Seeds(seeds, options.until), how))
            return output.replicated(result, options.json)
        tell(result := driver.train(experiment, how))
        return output.trained(result, options.json)


def resume(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    threads = threads_of(options)
    from studies.cli import output
    from studies.driver import resume as driver
    from studies.driver.session import Options

    how = Options(argv, threads=threads, test=not options.no_test, trust=options.trust, quiet=options.quiet)
    with notifying(options.notify, "resume", options.run) as tell:
        tell(result := driver.resume(options.run, overrides, how))
        return (output.replicated if "seeds" in result.fields else output.trained)(result, options.json)
