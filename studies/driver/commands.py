"""`harness train`, `study` and `extend`: each checks its experiment, then runs it. Imports no torch.

Start-up order: a preflight check in a warm process first finds everything that is wrong with the input, while mlflow is
being imported in parallel; only then is anything created.
"""

from __future__ import annotations

import time
from typing import Any

from studies.common.state_folder import StateFolder
from studies.common.trust import is_own
from studies.config.experiment import Experiment
from studies.config.search_space import Choice, Range
from studies.console.progress import Display
from studies.driver.loop import TrialLoop
from studies.driver.session import Options, Result, is_live, opened


def run_study(experiment: Experiment, options: Options) -> Result:
    """Searches an experiment until there are `trials` trials in total; resumes an existing study of that name."""
    began = time.monotonic()
    plan = experiment.search
    if plan is None:
        raise ValueError(f"experiment {experiment.name} has no search: section, which a study needs")
    if not plan.space:
        raise ValueError(f"experiment {experiment.name}: all searched parameters are overridden: nothing to search")
    display = Display(
        title=f"study {options.study_name or experiment.name}",
        metric=plan.metric,
        direction=plan.direction,
        total=options.trials,
        live=is_live(options),
    )
    written = experiment.sections  # before defaults are filled in: a study's definition compares these
    extremes = {
        name: parameter.ends
        for name, parameter in (plan.space.items() if isinstance(plan.space, dict) else ())
        if isinstance(parameter, Range | Choice)
    }
    with display, opened(experiment, options, display) as session:
        # Optuna, matplotlib and other slow imports run here while the warm server imports torch.
        from studies.driver.conclusion import conclude, prepare
        from studies.driver.study import Study, StudySource
        from studies.search import check_database, check_space

        prepare()
        name = options.study_name or experiment.name
        check_space(plan.space, plan.sampler, plan.pruner)
        check_database(session.state_folder.storage)
        session.check(plan.metric, extremes)
        session.take_lease(name)
        found = Study(session, plan, name, written)
        source = StudySource(found)
        deadline = time.monotonic() + options.timeout if options.timeout else None
        loop = session.loop(deadline)
        loop.run(source)
        fields = conclude(found, loop)
    return _concluded(loop, fields, source.gave_up, began)


def extend(name: str, top: int, epochs: int, options: Options) -> Result:
    """Trains the best trials of a study for `epochs` more epochs, from their last checkpoints."""
    began = time.monotonic()
    from studies.driver.extension import ExtensionSource, described

    state_folder = StateFolder.find(options.storage)
    state_folder.check()
    experiment = described(state_folder, name)
    if not options.trust and not is_own(state_folder.folder):
        raise ValueError(
            f"{state_folder.folder} was not made by you on this machine, and to extend its trials runs the code that "
            "they name: give --trust if you trust who made it"
        )
    plan = experiment.search
    assert plan is not None
    title = f"extend {name}"
    display = Display(title=title, metric=plan.metric, direction=plan.direction, total=top, live=is_live(options))
    with display, opened(experiment, options, display) as session:
        from studies.driver.conclusion import conclude
        from studies.driver.study import Study

        session.take_lease(name)
        found = Study(session, plan, name, experiment.sections)
        source = ExtensionSource(found, top, epochs)
        loop = session.loop()
        loop.run(source)
        source.restore()
        fields = conclude(found, loop)
    return _concluded(loop, fields, source.failed, began)


def _concluded(loop: TrialLoop, fields: dict[str, Any], failed: bool, began: float) -> Result:
    status = "interrupted" if loop.signal else "timeout" if loop.timed_out else "finished"
    if status == "finished" and (fields["best"] is None or failed):
        status = "failed"
    return Result(status, time.monotonic() - began, loop.signal, fields)
