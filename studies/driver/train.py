"""`harness train`: one trial with an experiment's own parameters. Imports no torch."""

from __future__ import annotations

import time

from studies.config.experiment import Experiment
from studies.console.progress import Display
from studies.driver.session import Options, Result, is_live, opened
from studies.driver.trial_source import TrialSource
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class SingleRun(TrialSource):
    """A source of one trial: `harness train`."""

    def __init__(self, spec: TrialSpec) -> None:
        self._spec: TrialSpec | None = spec
        self.ending: Ending | None = None

    def next(self) -> TrialSpec | None:
        spec, self._spec = self._spec, None
        return spec

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        self.ending = ending


def train(experiment: Experiment, options: Options) -> Result:
    """Trains an experiment once, with its own parameters, and evaluates it once on the test set at the end."""
    began = time.monotonic()
    plan = experiment.search
    metric, direction = (plan.metric, plan.direction) if plan else (None, "maximize")
    title, live = f"train {experiment.name}", is_live(options)
    display = Display(title=title, metric=metric, direction=direction, total=1, live=live)
    with display, opened(experiment, options, display) as session:
        session.check(metric, {})
        experiment_id = session.connect()
        name = f"{experiment.name} seed {experiment.seed}"
        run_id, folder = session.start_run(
            experiment_id, name, experiment.sections, experiment.seed, {"harness.kind": "run"}, {}
        )
        source = SingleRun(
            TrialSpec(
                run_id=run_id,
                experiment=experiment.sections,
                seed=experiment.seed,
                folder=str(folder),
                metric=metric,
                direction=direction,
                test=options.test,
                search_path=experiment.search_path,
            )
        )
        loop = session.loop()
        loop.run(source)
    assert source.ending is not None
    status = {"COMPLETE": "finished", "INTERRUPTED": "interrupted"}.get(source.ending.state, "failed")
    fields = {"run_id": run_id, "metrics": source.ending.metrics, "folder": str(folder), "error": source.ending.error}
    return Result(status, time.monotonic() - began, loop.signal, fields)
