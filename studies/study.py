"""A study: the source of its trials, and what is made of them at the end.

The Optuna study says what is to be done; the MLflow parent run shows it. Each trial is one Optuna trial and
one MLflow child run, bound by the run id before the trial starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.experiment import SearchPlan
from studies.loop import Ending, newest_checkpoint
from studies.messages import TrialSpec
from studies.search import Search, TrialRow, best_of, derive_seed
from studies.views import prepared_view

if TYPE_CHECKING:
    from studies.driver import Session


class StudySource:
    """Trials of a study: first those a former driver left unfinished, then new ones up to the wanted total."""

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
        session.home.folder.mkdir(parents=True, exist_ok=True)
        self.search = Search(
            session.home.storage, name, definition, plan.space, plan.sampler, plan.pruner, self._reports()
        )
        self.experiment_id = session.connect()
        self.parent, self.parent_folder = self._open_parent()
        self._tag_view()
        rows = self.search.trials()
        self._unfinished = [row.number for row in rows if row.state in ("RUNNING", "WAITING")]
        self._open = len(rows)
        self.total = session.options.trials
        if self.search.points is not None and self.search.points < self.total:
            session.display.say(f"the grid has {self.search.points} points, so there will be no more trials than that")
            self.total = session.display.total = self.search.points
        if rows:
            done = sum(row.state in ("COMPLETE", "PRUNED", "FAIL") for row in rows)
            best = best_of(rows, plan.direction)
            session.display.went_on(done, best.value if best else None, best.number if best else None)
            session.display.say(f"study {name} goes on: {done} of {self.total} trials are done")
        self._mend_runs(rows)
        self._failures = 0  # in a row

    @property
    def gave_up(self) -> bool:
        """Whether so many trials in a row have failed that the next would too."""
        return self._failures >= self.session.options.max_failures

    def _reports(self) -> int | None:
        """How often a whole trial validates, as far as the trainer section says."""
        trainer = self.experiment.trainer
        epochs, interval = trainer.get("max_epochs"), trainer.get("val_check_interval")
        if not isinstance(epochs, int) or epochs < 1:
            return None
        return epochs * round(1 / interval) if isinstance(interval, float) and interval < 1 else epochs

    def _open_parent(self) -> tuple[str, Path]:
        session = self.session
        tags = {"harness.kind": "study", "harness.study": self.name}
        found = session.tracking.get("find_run", tags, self.experiment_id)
        if found is not None:
            session.tracking.get("reopen", found)
            return found, session.home.trial_folder(found)
        searched = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        sections, seed = self.experiment.sections, self.experiment.seed
        run_id, folder = session.start_run(self.experiment_id, f"study {self.name}", sections, seed, tags, searched)
        search = {
            "metric": self.plan.metric,
            "direction": self.plan.direction,
            "sampler": self.plan.sampler,
            "pruner": self.plan.pruner,
            "space": self.plan.space_as_written,
        }
        session.tracking.put("log_params", run_id, {f"search.{name}": value for name, value in search.items()})
        session.write_config(folder / "artifacts", {**self.experiment.sections, "search": search})
        session.tracking.put("log_files", run_id, folder / "artifacts")
        return run_id, folder

    def _tag_view(self) -> None:
        """Prepares the view that `harness ui` opens."""
        parameters = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        # The table shows a metric's last value; the best one is a metric of its own.
        view = prepared_view(self.experiment_id, f"best/{self.plan.metric}", self.plan.direction, parameters)
        put = self.session.tracking.put
        put("tag_experiment", self.experiment_id, view.tag_key, view.tag_value)
        put("tag_experiment", self.experiment_id, "harness.view", view.path)

    def _mend_runs(self, rows: list[TrialRow]) -> None:
        """Closes runs whose trial Optuna has already closed: a former driver died between the two."""
        ends = {"COMPLETE": ("FINISHED", None), "PRUNED": ("KILLED", "pruned"), "FAIL": ("FAILED", "failed")}
        states = {row.run_id: row.state for row in rows}
        bound = {row.run_id for row in rows}
        for run_id in self.session.tracking.get("running", self.experiment_id, self.name):
            if states.get(run_id) in ends:
                self.session.tracking.put("end", run_id, *ends[states[run_id]])
            elif run_id not in bound:  # opened, but its trial never learnt of it and will get another
                self.session.tracking.put("end", run_id, "KILLED", "interrupted")

    def next(self) -> TrialSpec | None:
        if self.gave_up:
            return None
        if self._unfinished:
            row = self.search.reopen(self._unfinished.pop(0))
        elif self._open < self.total:
            row = self.search.ask()
            self._open += 1
        else:
            return None
        return self._spec(row)

    def _spec(self, row: TrialRow) -> TrialSpec:
        session, seed = self.session, derive_seed(self.experiment.seed, row.number, "training")
        sections = self.experiment.with_params(row.params)
        if row.run_id is None:
            tags = {
                "harness.kind": "trial",
                "harness.study": self.name,
                "harness.trial": str(row.number),
                "mlflow.parentRunId": self.parent,
            }
            run_id, folder = session.start_run(self.experiment_id, f"trial {row.number}", sections, seed, tags)
            self.search.bind(row.number, run_id)
        else:
            run_id, folder = row.run_id, session.home.trial_folder(row.run_id)
            session.tracking.put("reopen", run_id)
            session.tracking.put("delete_tag", run_id, "harness.outcome")
        return TrialSpec(
            run_id=run_id,
            experiment=sections,
            seed=seed,
            folder=str(folder),
            study=self.name,
            number=row.number,
            params=row.params,
            metric=self.plan.metric,
            direction=self.plan.direction,
            pruning=self.plan.pruner != "none",
            resume=newest_checkpoint(folder),
            search_path=[str(self.experiment.path.parent), str(Path.cwd())],
        )

    def report(self, spec: TrialSpec, count: int, value: float) -> bool:
        return self.search.report(spec.number, count, value)

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        if ending.state != "INTERRUPTED":  # that one stays RUNNING, and the next start goes on with it
            self.search.tell(spec.number, ending.state, ending.value)
            self._failures = self._failures + 1 if ending.state == "FAIL" else 0
            if self.gave_up:
                self.session.display.say(
                    f"{self._failures} trials in a row have failed: the study ends (--max-failures)"
                )
