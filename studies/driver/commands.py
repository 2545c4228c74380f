"""`harness train`, `study` and `extend`: each checks its experiment, then runs it. Imports no torch.

Start-up order: a preflight check in a warm process first finds everything that is wrong with the input, while mlflow is
being imported in parallel; only then is anything created.
"""

from __future__ import annotations

import time
from typing import Any

from studies.common.state_folder import StateFolder
from studies.common.trust import check_own
from studies.config.enqueued import check_enqueued
from studies.config.experiment import Experiment
from studies.config.search_space import Choice, Range
from studies.driver.loop import TrialLoop
from studies.driver.session import Options, Result, display_for, opened


def run_study(experiment: Experiment, options: Options) -> Result:
    """Searches an experiment until there are `trials` trials in total; resumes an existing study of that name."""
    began = time.monotonic()
    plan = experiment.search
    if plan is None:
        raise ValueError(f"experiment {experiment.name} has no search: section, which a study needs")
    if not plan.space:
        raise ValueError(
            f"experiment {experiment.name} has nothing to search: no space, or all of its parameters are overridden"
        )
    if experiment.model is None and plan.further:
        raise ValueError(f"a function is searched by one metric, but got metrics={list(plan.objectives)}")
    if experiment.model is None and options.pack > 1:
        raise ValueError(f"pack must be 1 for a function, which trains on its own, but got pack={options.pack}")
    if plan.seeds > 1 and options.pack > 1:
        raise ValueError(f"pack must be 1 with search.seeds, but got pack={options.pack}")
    title = f"study {options.study_name or experiment.name}"
    display = display_for(options, title, plan.metric, plan.direction, options.trials)
    written = experiment.sections  # before defaults are filled in: a study's definition compares these
    extremes = {
        name: parameter.ends
        for name, parameter in (plan.space.items() if isinstance(plan.space, dict) else ())
        if isinstance(parameter, Range | Choice)
    }
    with display, opened(experiment, options, display) as session:
        # Optuna, matplotlib and other slow imports run here while the warm server imports torch.
        from studies.driver.conclusion import conclude, prepare
        from studies.driver.prior_study import prior_of
        from studies.driver.study import Study, StudySource
        from studies.search import check_database, check_space

        prepare()
        name = options.study_name or experiment.name
        check_space(plan.space, plan.sampler, plan.pruner, len(plan.objectives))
        check_database(session.state_folder.storage)
        enqueued = [check_enqueued(values, plan.space) for values in options.enqueue]
        prior = prior_of(name, options.from_study, plan, session.state_folder) if options.from_study else None
        session.check(plan.metric, extremes)
        session.take_lease(name)
        found = Study(session, plan, name, written)
        found.record_method()
        found.learn_from(prior)
        found.enqueue(enqueued)
        source = StudySource(found)
        deadline = time.monotonic() + options.timeout if options.timeout else None
        loop = session.loop(deadline)
        loop.run(source)
        fields = conclude(found, loop)
        session.ended = status = _status(loop, fields, source.gave_up)
    return Result(status, time.monotonic() - began, loop.signal, fields)


def extend(name: str, top: int, epochs: int, options: Options) -> Result:
    """Trains the best trials of a study for `epochs` more epochs, from their last checkpoints."""
    began = time.monotonic()
    from studies.driver.extension import ExtensionSource, described

    state_folder = StateFolder.find(options.storage)
    state_folder.check()
    experiment = described(state_folder, name)
    if experiment.model is None:
        raise ValueError(f"study {name} is of a function, which trains on its own: its trials cannot be extended")
    if not options.trust:
        check_own(state_folder.folder, "to extend its trials")
    plan = experiment.search
    assert plan is not None
    if plan.seeds > 1:
        raise ValueError(f"study {name} scores each point by {plan.seeds} seeds: its trials cannot be extended")
    display = display_for(options, f"extend {name}", plan.metric, plan.direction, top)
    with display, opened(experiment, options, display) as session:
        from studies.driver.conclusion import conclude
        from studies.driver.study import Study

        session.take_lease(name)
        session.look_at_data()
        found = Study(session, plan, name, experiment.sections)
        source = ExtensionSource(found, top, epochs)
        loop = session.loop()
        loop.run(source)
        source.restore()
        fields = conclude(found, loop)
        session.ended = status = _status(loop, fields, source.failed)
    return Result(status, time.monotonic() - began, loop.signal, fields)


def _status(loop: TrialLoop, fields: dict[str, Any], failed: bool) -> str:
    """How a study ended; see Result."""
    status = "interrupted" if loop.signal else "timeout" if loop.timed_out else "finished"
    return "failed" if status == "finished" and (fields["best"] is None or failed) else status
