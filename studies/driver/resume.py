"""`harness resume`: a single run that was interrupted or has failed continues in the same MLflow run, bit for bit.

A run that has finished is trained further if it is given more epochs or steps, as `harness extend` does for trials.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from studies.common.short_ids import short_id
from studies.common.state_folder import StateFolder
from studies.config.experiment import override
from studies.driver.past_run import experiment_of, find_spec
from studies.driver.seeds import PLAN, resume_seeds
from studies.driver.session import Options, Result, display_for, opened
from studies.driver.train import SingleRun, concluded
from studies.protocol.event_log import NAME, is_being_written
from studies.protocol.events import Finished
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import TrialRecord

LIMITS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")  # the values that may change


def resume(name: str, overrides: Mapping[str, str], options: Options) -> Result:
    """Continues a run from its last checkpoint, or from the start if it has none.

    Args:
        name: a run id or a prefix of it, latest, best:STUDY, or STUDY/NUMBER.
        overrides: new limits of the training, as written on the command line.

    Raises:
        ValueError: in one line: there is no such run, it is a trial of a study or still being trained, other values
            than limits are given, or it has finished and no later limit is given.
    """
    began = time.monotonic()
    state_folder = StateFolder.find()
    state_folder.check()
    from studies.search.run_references import run_id_of  # imports Optuna

    run_id = run_id_of(name, state_folder)
    if (state_folder.run_folder(run_id) / PLAN).is_file():
        return resume_seeds(run_id, overrides, state_folder, options)
    spec = find_spec(run_id, state_folder, options.trust)
    _check(spec, overrides)
    experiment = experiment_of(spec)
    override(experiment, overrides)
    spec = replace(spec, experiment=experiment.sections, extends=bool(overrides), test=options.test, trusted=True)
    title = f"resume {experiment.name} {short_id(spec.run_id, state_folder)}"
    display = display_for(options, title, spec.metric, spec.direction, 1)
    with display, opened(experiment, options, display) as session:
        session.check(spec.metric, {})
        changed = session.data.changed_since(Path(spec.folder))
        if changed is not None:
            display.say(f"resuming run {short_id(spec.run_id, state_folder)}: {changed}")
        session.take_lease(spec.run_id)
        experiment_id = session.connect()
        tracking = session.tracking.soon
        tracking.reopen(spec.run_id)
        for tag in ("harness.outcome", "harness.error"):
            tracking.delete_tag(spec.run_id, tag)
        tracking.set_tags(spec.run_id, session.provenance.tags | session.data.tags)
        session.put_parameters(spec.run_id, {}, spec.seed)
        session.write_config(spec.run_id, {**experiment.sections, "seed": spec.seed})
        session.write_provenance(spec.run_id, session.provenance_folder)
        source = SingleRun(replace(spec, data_sets=session.data.splits), resumes=True)
        loop = session.loop()
        loop.run(source)
    return concluded(source, loop, began, experiment_id)


def _check(spec: TrialSpec, overrides: Mapping[str, str]) -> None:
    run = short_id(spec.run_id, StateFolder.find())
    if spec.study is not None:
        raise ValueError(
            f"run {run} is trial {spec.number} of study {spec.study}: the same `harness study` resumes it, "
            f"`harness extend {spec.study}` trains the best for more epochs"
        )
    others = [name for name in overrides if name not in LIMITS]
    if others:
        raise ValueError(
            f"--{others[0]} cannot be changed when a run resumes, only --{', --'.join(LIMITS)}: "
            f"`harness train --from {run} --{others[0]} ...` starts a new run"
        )
    if is_being_written(Path(spec.folder) / NAME):
        raise ValueError(f"run {run} is being trained: wait for it or stop it")
    record = TrialRecord(spec, None)
    record.read()
    if isinstance(record.ending, Finished) and not overrides:
        limit = spec.experiment["trainer"].get("max_epochs")
        more = f"--trainer.max_epochs {limit + 1}" if isinstance(limit, int) and limit > 0 else "--trainer.max_epochs N"
        raise ValueError(f"run {run} has finished: to train it further, give a later end, such as {more}")
