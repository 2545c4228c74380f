"""`harness extend`: trains the best trials of a study for more epochs, each in its existing run, as one curve.

Optuna cannot change a finished trial, so the outcome of its extension is stored alongside it (Search.extend), and
leaderboards show that outcome. Parameters do not change, but a learning rate schedule that ends with the training is
stretched to the new end.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from pathlib import Path

from studies.common.state_folder import StateFolder
from studies.config.experiment import Experiment
from studies.config.search_plan import SearchPlan
from studies.config.search_space import parse_space
from studies.driver.study import Study
from studies.driver.trial_source import TrialSource
from studies.protocol.checkpoint_files import newest_checkpoint
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search, TrialRow, ranked
from studies.tracking.trial_log import STATUSES, Ending


def described(state_folder: StateFolder, name: str) -> Experiment:
    """The experiment of a study, from the study's stored definition.

    Raises:
        ValueError: there is no such study.
    """
    search = Search.existing(state_folder.storage, name)
    definition = search.definition
    content = copy.deepcopy(definition["experiment"])
    written = definition["space"]
    space = written if isinstance(written, str) else parse_space(written)
    (metric, direction), *further = search.objectives.items()
    plan = SearchPlan(metric, direction, space, "random", "none", written, dict(further), definition.get("seeds", 1))
    here = Path.cwd()
    folders = [*_search_path(state_folder, search), str(here)]
    return Experiment(path=here / "study", seed=definition["seed"], search=plan, search_path=folders, **content)


def _search_path(state_folder: StateFolder, search: Search) -> list[str]:
    """The folders from which a study's trials imported their classes."""
    for row in reversed(search.trials()):
        with contextlib.suppress(OSError, ValueError, TypeError):
            return TrialSpec.load(state_folder.trial_folder(row.run_id or "") / "spec.json").search_path
    return []


class ExtensionSource(TrialSource):
    """Trials to extend: those left unfinished by an interrupted `extend`, or else the best `top` of the study.

    Args:
        top: number of trials, at least 1.
        epochs: number of additional epochs, at least 1.

    Raises:
        ValueError: there are no such trials, one has no checkpoint, or the training is not counted in epochs.
    """

    def __init__(self, study: Study, top: int, epochs: int) -> None:
        self.study = study
        self.failed = False
        self._ends: list[tuple[str, str]] = []  # (run id, original state) of trials whose extension failed
        rows = study.search.trials()
        self._rows = {row.number: row for row in rows}
        unfinished = [row for row in rows if row.extension and not row.extension["done"]]
        if unfinished:
            study.session.display.inform("resuming an interrupted extension; no new one is started")
            self._specs = [self._spec(row, row.extension["epochs"]) for row in unfinished]
        else:
            chosen = ranked(rows, study.plan.objectives, ("COMPLETE", "PRUNED"))[:top]
            if not chosen:
                raise ValueError(f"study {study.name} has no complete or pruned trial to extend")
            self._specs = [self._spec(row, self._epochs(row) + epochs) for row in chosen]
            for row, spec in zip(chosen, self._specs, strict=True):
                total = _max_epochs(spec)
                study.session.display.inform(f"trial {row.number}: {total - epochs} epochs so far, {total} in the end")
                study.search.extend(row.number, {**row.extension, "epochs": total, "done": False})
        study.session.display.total = len(self._specs)
        study.session.note(total=len(self._specs), extends=[spec.number for spec in self._specs])

    def _epochs(self, row: TrialRow) -> int:
        """The total number of epochs a trial was trained for."""
        return int(row.extension["epochs"]) if row.extension else _max_epochs(self._load(row))

    def _load(self, row: TrialRow) -> TrialSpec:
        if row.run_id is None:
            raise ValueError(f"trial {row.number} has no run")
        folder = self.study.session.state_folder.trial_folder(row.run_id)
        try:
            spec = TrialSpec.load(folder / "spec.json")
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"trial {row.number} has no readable {folder}/spec.json") from error
        if newest_checkpoint(folder) is None:
            raise ValueError(f"trial {row.number} has no checkpoint in {folder} to resume from")
        return replace(spec, run_id=row.run_id or "", folder=str(folder), trusted=self.study.session.trusts)

    def _spec(self, row: TrialRow, epochs: int) -> TrialSpec:
        spec = self._load(row)
        experiment = copy.deepcopy(spec.experiment)
        experiment["trainer"]["max_epochs"] = epochs
        return replace(
            spec, experiment=experiment, extends=True, pruning=False, data_sets=self.study.session.data.splits
        )

    def next(self) -> TrialSpec | None:
        if not self._specs:
            return None
        spec, tracking = self._specs.pop(0), self.study.session.tracking
        tracking.soon.reopen(spec.run_id)
        tracking.soon.delete_tag(spec.run_id, "harness.outcome")
        tracking.soon.set_tags(spec.run_id, {"harness.epochs": str(_max_epochs(spec))})
        return spec

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending:
        epochs = _max_epochs(spec)
        if ending.state == "COMPLETE":
            extension = {"epochs": epochs, "done": True, "state": "COMPLETE", "value": ending.value}
            extension |= {"further": ending.further} if ending.further else {}
            self.study.search.extend(spec.number, extension)
        elif ending.state == "FAIL":  # the trial keeps its earlier result
            self.failed = True
            row = self._rows[spec.number]
            before = {"epochs": epochs, "done": True, "state": row.state, "value": row.value}
            before |= {"further": row.further} if row.further else {}
            self.study.search.extend(spec.number, before)
            self._ends.append((spec.run_id, row.state))
        return ending

    def restore(self) -> None:
        """Restores the status of runs whose extension failed to that of their trial; the error stays as a tag."""
        for run_id, state in self._ends:
            self.study.session.tracking.soon.delete_tag(run_id, "harness.outcome")
            self.study.session.tracking.soon.end(run_id, *STATUSES[state])


def _max_epochs(spec: TrialSpec) -> int:
    epochs = spec.experiment["trainer"].get("max_epochs")
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"extend needs an experiment with trainer.max_epochs, but it has {epochs}")
    return epochs
