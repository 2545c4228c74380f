"""`harness train`: one trial with an experiment's own parameters. Imports no torch."""

from __future__ import annotations

import time

from studies.config.experiment import Experiment
from studies.driver.loop import TrialLoop
from studies.driver.session import Options, Result, display_for, opened
from studies.driver.trial_source import TrialSource
from studies.protocol.events import Event
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending
from studies.tracking.ui_view import run_page


class SingleRun(TrialSource):
    """A source of one trial: `harness train`, and `harness resume`, which `resumes` it however it had ended."""

    def __init__(self, spec: TrialSpec, resumes: bool = False) -> None:
        self.spec = spec
        self._resumes = resumes
        self._next: TrialSpec | None = spec
        self.ending: Ending | None = None

    def next(self) -> TrialSpec | None:
        spec, self._next = self._next, None
        return spec

    def may_resume(self, spec: TrialSpec, ending: Event) -> bool:
        return self._resumes or super().may_resume(spec, ending)

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending:
        self.ending = ending
        return ending


def train(experiment: Experiment, options: Options) -> Result:
    """Trains an experiment once, with its own parameters, and evaluates it once on the test set at the end."""
    began = time.monotonic()
    plan = experiment.search
    metric, direction = (plan.metric, plan.direction) if plan else (None, "maximize")
    display = display_for(options, f"train {experiment.name}", metric, direction, 1)
    with display, opened(experiment, options, display) as session:
        session.check(metric, {})
        experiment_id = session.connect()
        name = options.name or f"{experiment.name} seed {experiment.seed}"
        tags = {"harness.kind": "run", **session.data.tags, **options.tags}
        run_id, folder = session.start_run(experiment_id, name, experiment.sections, experiment.seed, tags, {})
        session.write_provenance(run_id)
        source = SingleRun(
            TrialSpec(
                run_id=run_id,
                experiment=experiment.sections,
                seed=experiment.seed,
                folder=str(folder),
                name=experiment.name,
                metric=metric,
                direction=direction,
                further=plan.further if plan else {},
                test=options.test,
                search_path=experiment.search_path,
                data_sets=session.data.splits,
            )
        )
        loop = session.loop()
        loop.run(source)
    return concluded(source, loop, began, experiment_id)


def concluded(source: SingleRun, loop: TrialLoop, began: float, experiment_id: str) -> Result:
    """The result of a single run.

    Args:
        began: when the command did, by time.monotonic().
    """
    ending, spec = source.ending, source.spec
    assert ending is not None
    status = {"COMPLETE": "finished", "INTERRUPTED": "interrupted"}.get(ending.state, "failed")
    fields = {"run_id": spec.run_id, "metrics": ending.metrics, "folder": spec.folder, "error": ending.error}
    fields["page"] = run_page(experiment_id, spec.run_id)
    return Result(status, time.monotonic() - began, loop.signal, fields)
