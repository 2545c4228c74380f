"""Single runs of configurations on several seeds, as children of one parent run; what an earlier start began goes on.

A replicate is a run like that of `harness train`: its folder, log and checkpoints, and `harness resume` are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studies.driver.session import Session
from studies.protocol.events import Event, Finished
from studies.protocol.trial_spec import TrialSpec

CONFIGURATION, SEED = "harness.configuration", "harness.seed"  # tags of a replicate


@dataclass(frozen=True)
class Configuration:
    """What is trained on several seeds: a name for the user, and the experiment's sections."""

    name: str
    sections: dict[str, Any]


class Replicates:
    """Opens the replicates below a parent run.

    Args:
        session: with an open tracking.
        experiment_id: MLflow's.
        parent: the run above them.
        known: the parent was there before, perhaps with replicates.
        tags: of each replicate.
        test: evaluate each replicate's best checkpoint on the test set.
    """

    def __init__(
        self,
        session: Session,
        experiment_id: str,
        parent: str,
        known: bool,
        tags: Mapping[str, str] | None = None,
        test: bool = False,
    ) -> None:
        self.session, self.experiment_id, self.parent, self.test = session, experiment_id, parent, test
        self._known = known
        self._tags = tags or {}
        self._numbers: dict[str, int] = {}  # run id -> place in the display

    def spec(self, configuration: Configuration, seed: int) -> TrialSpec:
        """The spec of a replicate; its run is opened, or found from an earlier start."""
        session, experiment = self.session, self.session.experiment
        tags = {"harness.kind": "run", "mlflow.parentRunId": self.parent}
        tags |= {CONFIGURATION: configuration.name, SEED: str(seed)}
        run_id = session.tracking.now.find_run(tags, self.experiment_id) if self._known else None
        if run_id is None:
            name = f"{configuration.name} seed {seed}".strip()
            tags |= {"harness.provenance": session.provenance_folder, **session.data.tags, **self._tags}
            run_id, _ = session.start_run(self.experiment_id, name, configuration.sections, seed, tags, {})
        else:
            session.tracking.soon.reopen(run_id)
            for tag in ("harness.outcome", "harness.error"):
                session.tracking.soon.delete_tag(run_id, tag)
        plan = experiment.search
        shown = {"configuration": configuration.name} if configuration.name else {}
        return TrialSpec(
            run_id=run_id,
            experiment=configuration.sections,
            seed=seed,
            folder=str(session.state_folder.trial_folder(run_id)),
            name=experiment.name,
            number=self._numbers.setdefault(run_id, len(self._numbers)),
            params={**shown, "seed": seed},
            metric=plan.metric if plan else None,
            direction=plan.direction if plan else "maximize",
            further=plan.further if plan else {},
            test=self.test,
            search_path=experiment.search_path,
            trusted=session.trusts,
            data_sets=session.data.splits,
        )


def goes_on(ending: Event) -> bool:
    """Whether a replicate that ended like this in an earlier start is trained on: only a finished one is not."""
    return not isinstance(ending, Finished)
