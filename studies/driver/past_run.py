"""A run's specification, found by what a user calls the run, and the experiment that it describes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from studies.common.state_folder import StateFolder
from studies.common.trust import check_own, is_own, remember
from studies.config.experiment import Experiment
from studies.config.search_plan import SearchPlan
from studies.protocol.trial_spec import TrialSpec


def find_spec(name: str, state_folder: StateFolder, trust: bool = False) -> TrialSpec:
    """The specification of a run or trial.

    Args:
        name: a run id or a prefix of it, latest, best:STUDY, or STUDY/NUMBER.
        trust: follow a specification that came from elsewhere, too; see studies.common.trust.

    Raises:
        ValueError: in one line: there is none, it cannot be read, or its state folder came from elsewhere.
    """
    if trust and state_folder.folder.exists():
        remember(state_folder.folder)
    from studies.search.run_references import run_id_of

    folder = state_folder.run_folder(run_id_of(name, state_folder))
    if not (folder / "spec.json").is_file():
        raise ValueError(f"run {folder.name} is not a training run: it has no spec.json in {folder}")
    check_own(state_folder.folder, "to train its runs again")
    spec = replace(TrialSpec.load(folder / "spec.json"), run_id=folder.name, folder=str(folder))
    return spec if spec.name else replace(spec, name=_name_in_mlflow(folder.name, state_folder))


def _name_in_mlflow(run_id: str, state_folder: StateFolder) -> str:
    """The name of a run's experiment, which specifications of older versions do not have.

    Raises:
        ValueError: MLflow has no such run.
    """
    from studies.tracking.client import Tracking

    run = Tracking(state_folder.tracking_uri, None).run(run_id)
    return run.tags.get("harness.experiment") or run.experiment


def add_search_path(experiment: Experiment) -> None:
    """Adds the folders from which a run imported its classes, if an experiment's file is the run's config.yaml."""
    spec = experiment.path.parent.parent / "spec.json"
    if experiment.path.name == "config.yaml" and spec.is_file() and is_own(spec.resolve().parents[2]):
        folders = [*TrialSpec.load(spec).search_path, *experiment.search_path]
        experiment.search_path = list(dict.fromkeys(folders))


def experiment_of(spec: TrialSpec) -> Experiment:
    """The experiment of a run, with the values that it was trained with."""
    here = Path.cwd()
    plan = None
    if spec.metric is not None:
        plan = SearchPlan(spec.metric, spec.direction, {}, "random", "none", {}, spec.further)
    return Experiment(
        name=spec.name,
        path=here / "run",
        seed=spec.seed,
        search=plan,
        search_path=list(dict.fromkeys([*spec.search_path, str(here)])),
        **copy.deepcopy(spec.experiment),
    )
