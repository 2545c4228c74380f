"""A study and the source of its trials.

The Optuna study decides what is run; the MLflow parent run displays it. Each trial is one Optuna trial and
one MLflow child run, linked by the run id before the trial starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studies.common.sources import origin_of
from studies.common.trust import make_own
from studies.config.search_plan import SearchPlan
from studies.driver.session import Session
from studies.driver.trial_source import TrialSource
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search, TrialRow, best_of, derive_seed
from studies.tracking.trial_log import Ending
from studies.tracking.ui_view import prepared_view


class Study:
    """An open study: its Optuna study and its run in MLflow, both created if missing.

    Attributes:
        search: the Optuna study.
        experiment_id: MLflow's.
        parent: MLflow run of the study.
        parent_folder: folder of that run's artifacts.

    Raises:
        ValueError: a study of that name has a different definition.
    """

    def __init__(self, session: Session, plan: SearchPlan, name: str, written: dict[str, Any]) -> None:
        self.session = session
        self.plan = plan
        self.name = name
        self.experiment = session.experiment
        definition = {
            "experiment": {"name": self.experiment.name, **written},
            "space": plan.space_as_written,
            "metric": plan.metric,
            "direction": plan.direction,
            "seed": self.experiment.seed,
        }
        make_own(session.state_folder.folder)
        parts = session.acceleration.for_search() if session.acceleration else {}
        self.search = Search(
            session.state_folder.storage,
            name,
            definition,
            plan.space,
            plan.sampler,
            plan.pruner,
            self._reports(),
            **parts,
        )
        self._record_origin(written)
        self.experiment_id = session.connect()
        self.parent, self.parent_folder = self._open_parent()
        self._tag_view()

    def _record_origin(self, written: dict[str, Any]) -> None:
        """Distinguishes studies whose experiment files are identical but whose modules are not."""
        path, state = self.experiment.path, self.session.state_folder.folder
        if path.is_file():  # `extend` reads the experiment from the study instead
            note = self.search.came_from(origin_of(path, written, [path.parent, Path.cwd()], state), state)
            if note is not None:
                self.session.display.say(note)

    def _reports(self) -> int | None:
        """How often a complete trial validates, if the trainer section determines it."""
        trainer = self.experiment.trainer
        epochs, interval = trainer.get("max_epochs"), trainer.get("val_check_interval")
        if not isinstance(epochs, int) or epochs < 1:
            return None
        return epochs * round(1 / interval) if isinstance(interval, float) and interval < 1 else epochs

    def _open_parent(self) -> tuple[str, Path]:
        session = self.session
        tags = {"harness.kind": "study", "harness.study": self.name}
        found = session.tracking.now.find_run(tags, self.experiment_id)
        if found is not None and "search.metric" in session.tracking.now.run(found).params:
            session.tracking.now.reopen(found)
            return found, session.state_folder.trial_folder(found)
        searched = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        sections, seed = self.experiment.sections, self.experiment.seed
        run_id, folder = session.start_run(
            self.experiment_id, f"study {self.name}", sections, seed, tags, {}, searched, found
        )
        search = {
            "metric": self.plan.metric,
            "direction": self.plan.direction,
            "sampler": self.plan.sampler,
            "pruner": self.plan.pruner,
            "space": self.plan.space_as_written,
        }
        session.tracking.soon.log_params(run_id, {f"search.{name}": value for name, value in search.items()})
        session.write_config(run_id, folder / "artifacts", {**self.experiment.sections, "search": search})
        return run_id, folder

    def _tag_view(self) -> None:
        """Prepares the view that `harness ui` opens."""
        parameters = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        # The table shows a metric's last value, so the best value is a metric of its own.
        view = prepared_view(self.experiment_id, f"best/{self.plan.metric}", self.plan.direction, parameters)
        soon = self.session.tracking.soon
        soon.tag_experiment(self.experiment_id, view.tag_key, view.tag_value)
        soon.tag_experiment(self.experiment_id, "harness.view", view.path)


class StudySource(TrialSource):
    """Trials of a study: first those left unfinished by a previous driver, then new ones up to the requested total."""

    def __init__(self, study: Study) -> None:
        session, plan = study.session, study.plan
        self.study = study
        self.session = session
        self.search = study.search
        self.experiment = study.experiment
        if session.options.retry_failed:
            self.search.retry_failed()
        rows = self.search.trials()
        self._unfinished = [row.number for row in rows if row.state in ("RUNNING", "WAITING")]
        retries = sum(row.retry_of is not None for row in rows)  # a retry replaces its failed trial in the count
        self._open = len(rows)
        self.total = session.display.total = session.options.trials + retries
        if self.search.points is not None and self.search.points + retries < self.total:
            session.display.say(f"the grid has {self.search.points} points, so there will be no more trials than that")
            self.total = session.display.total = self.search.points + retries
        if rows:
            done = sum(row.state in ("COMPLETE", "PRUNED", "FAIL") for row in rows)
            best = best_of(rows, plan.direction)
            session.display.resumed(done, best.value if best else None, best.number if best else None)
            session.display.say(f"resuming study {study.name}: {done} of {self.total} trials are done")
        self._rows = rows
        self._failures = 0  # consecutive

    @property
    def gave_up(self) -> bool:
        """Whether --max-failures trials in a row have failed."""
        return self._failures >= self.session.options.max_failures

    def unrecorded(self) -> list[tuple[TrialSpec, str]]:
        """Trials closed in Optuna but still running in MLflow: a previous driver died between the two updates."""
        running = set(self.session.tracking.now.running(self.study.experiment_id, self.study.name))
        ended = [row for row in self._rows if row.run_id in running and row.state in ("COMPLETE", "PRUNED", "FAIL")]
        return [(self._spec_of(row, row.run_id), row.state) for row in ended if row.run_id is not None]

    def next(self) -> TrialSpec | None:
        if self.gave_up:
            return None
        if self._unfinished:
            return self._spec(self.search.reopen(self._unfinished.pop(0)), reopened=True)
        if self._open < self.total:
            self._open += 1
            return self._spec(self.search.ask(), reopened=False)
        return None

    def _spec(self, row: TrialRow, reopened: bool) -> TrialSpec:
        """The spec of a trial to be run, with an open MLflow run linked to it."""
        session, run_id = self.session, row.run_id
        tags = {"harness.kind": "trial", "harness.study": self.study.name, "harness.trial": str(row.number)}
        if run_id is None and reopened:  # a driver may have died between opening its run and binding it
            run_id = session.tracking.now.find_run(tags, self.study.experiment_id)
        if run_id is None or row.run_id is None:
            if run_id is not None:  # possibly set by `harness doctor`
                session.tracking.soon.delete_tag(run_id, "harness.outcome")
            tags["mlflow.parentRunId"] = self.study.parent
            if row.retry_of is not None:
                tags["harness.retry_of"] = str(row.retry_of)
            sections, seed = self.experiment.with_params(row.params), self._seed(row)
            run_id, _ = session.start_run(
                self.study.experiment_id, f"trial {row.number}", sections, seed, tags, row.params, adopted=run_id
            )
            self.search.bind(row.number, run_id)
        else:
            session.tracking.soon.reopen(run_id)
            session.tracking.soon.delete_tag(run_id, "harness.outcome")
            session.put_parameters(run_id, row.params, self._seed(row))
        return self._spec_of(row, run_id)

    def _seed(self, row: TrialRow) -> int:
        """A trial's training seed; a retry has the seed of the failed trial."""
        return derive_seed(self.experiment.seed, row.number if row.retry_of is None else row.retry_of, "training")

    def _spec_of(self, row: TrialRow, run_id: str) -> TrialSpec:
        return TrialSpec(
            run_id=run_id,
            experiment=self.experiment.with_params(row.params),
            seed=self._seed(row),
            folder=str(self.session.state_folder.trial_folder(run_id)),
            study=self.study.name,
            number=row.number,
            params=row.params,
            metric=self.study.plan.metric,
            direction=self.study.plan.direction,
            pruning=self.study.plan.pruner != "none",
            search_path=self.experiment.search_path,
            trusted=self.session.trusts,
        )

    def report(self, spec: TrialSpec, count: int, value: float) -> bool:
        return self.search.report(spec.number, count, value)

    def write(self) -> None:
        self.search.write()

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        if ending.state != "INTERRUPTED":  # it stays RUNNING in Optuna, and the next start resumes it
            self.search.tell(spec.number, ending.state, ending.value)
            self._failures = self._failures + 1 if ending.state == "FAIL" else 0
            if self.gave_up:
                self.session.display.say(
                    f"{self._failures} trials in a row have failed: the study ends (--max-failures)"
                )
