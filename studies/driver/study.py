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
from studies.driver.seed_scores import SeedScores
from studies.driver.session import Session
from studies.driver.trial_source import TrialSource
from studies.protocol.trial_spec import TrialSpec
from studies.search import HISTORY, LEARNS, Search, TrialRow, best_of, derive_seed
from studies.tracking.trial_log import Ending
from studies.tracking.ui_view import TRIALS_OF, prepared_view, view_path

RUN_NAME = "mlflow.runName"  # MLflow's tag of a run's name


class Study:
    """An open study: its Optuna study and its run in MLflow, both created if missing.

    Attributes:
        search: the Optuna study.
        experiment_id: MLflow's.
        parent: MLflow run of the study.
        provenance: folder among its artifacts: command, code and packages of the trials that this process starts.
        parent_folder: folder of that run's artifacts.
        page: URL path of its experiment in MLflow's UI, from "#/" on.

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
        } | ({"further": plan.further} if plan.further else {})
        definition |= {"seeds": plan.seeds} if plan.seeds > 1 else {}
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
        self._record_data()
        self.experiment_id = session.connect()
        self.page = view_path(self.experiment_id)
        self.parent, self.parent_folder = self._open_parent()
        self.provenance = session.provenance_folder
        session.write_provenance(self.parent, self.provenance)
        self._tag_view()
        self._record_changes()

    def _record_changes(self) -> None:
        """Says what has changed about the study since its last start, and keeps all changes in its run."""
        changes, session = self.search.changes, self.session
        if changes:
            anew = "; cmaes starts anew" if self.plan.sampler == "cmaes" else ""
            session.display.say(f"study {self.name} goes on with a changed space: {'; '.join(changes)}{anew}")
            session.write_config(self.parent, self._config())
        self._tag_history()

    def _tag_history(self) -> None:
        if self.search.history:
            self.session.tracking.soon.set_tags(self.parent, {HISTORY: "\n".join(self.search.history)})

    def record_method(self) -> None:
        """Says that the sampler or the pruner is another one than at the last start; the study's run keeps it."""
        changes = self.search.use_method(self.plan.sampler, self.plan.pruner)
        if changes:
            self.session.display.say(f"study {self.name} goes on with another method: {'; '.join(changes)}")
            self.session.write_config(self.parent, self._config())
            self._tag_history()

    def learn_from(self, other: Search | None) -> None:
        """Lets the sampler learn from another study; None: from the one given at an earlier start, if any."""
        if self.plan.sampler not in LEARNS or isinstance(self.plan.space, str):
            return
        line = self.search.learn_from(other)
        if line is not None:
            self.session.display.say(line)
            self._tag_history()

    def enqueue(self, trials: list[dict[str, Any]]) -> None:
        """Enqueues trials, each once in the study's life."""
        new = self.search.enqueue(trials)
        if trials:
            before = f"; {len(trials) - new} were before" if new < len(trials) else ""
            self.session.display.say(f"{new} {'trial is' if new == 1 else 'trials are'} enqueued{before}")

    def _record_origin(self, written: dict[str, Any]) -> None:
        """Distinguishes studies whose experiment files are identical but whose modules are not."""
        path, state = self.experiment.path, self.session.state_folder.folder
        if path.is_file():  # `extend` reads the experiment from the study instead
            note = self.search.came_from(origin_of(path, written, [path.parent, Path.cwd()], state), state)
            if note is not None:
                self.session.display.say(note)

    def _record_data(self) -> None:
        """Says once that the study goes on with other data than those of its last start."""
        changed = self.search.trained_on(self.session.data.digests)
        if changed is not None:
            self.session.display.say(f"study {self.name}: {changed}")

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
        given, name = session.data.tags | session.options.tags, session.options.name
        if found is not None and "search.sampler" in session.tracking.now.run(found).params:
            session.tracking.now.reopen(found)
            session.tracking.soon.set_tags(found, given | ({RUN_NAME: name} if name else {}))
            return found, session.state_folder.trial_folder(found)
        searched = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        sections, seed = self.experiment.sections, self.experiment.seed
        run_id, folder = session.start_run(
            self.experiment_id, name or f"study {self.name}", sections, seed, given | tags, {}, searched, found
        )
        config = self._config()
        session.tracking.soon.log_params(run_id, {f"search.{name}": value for name, value in config["search"].items()})
        session.write_config(run_id, config)
        return run_id, folder

    def _config(self) -> dict[str, Any]:
        search = {
            **self.plan.objectives_as_written,
            "sampler": self.plan.sampler,
            "pruner": self.plan.pruner,
            **({"seeds": self.plan.seeds} if self.plan.seeds > 1 else {}),
            "space": self.plan.space_as_written,
        }
        return {**self.experiment.sections, "search": search}

    def _tag_view(self) -> None:
        """Prepares the view that `harness ui` opens; `extend`, which checks nothing, leaves it as it is."""
        if not self.session.logged:
            return
        parameters = list(self.plan.space) if isinstance(self.plan.space, dict) else []
        # The table shows a metric's last value, so the best value is a metric of its own.
        view = prepared_view(
            self.experiment_id, f"best/{self.plan.metric}", self.plan.direction, parameters, self.session.logged
        )
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
        if any(row.state != "WAITING" for row in rows):
            done = sum(row.state in ("COMPLETE", "PRUNED", "FAIL") for row in rows)
            best = best_of(rows, plan.objectives)
            session.display.resumed(done, best.value if best else None, best.number if best else None)
            session.display.inform(f"resuming study {study.name}: {done} of {self.total} trials are done")
        session.note(total=self.total)
        chosen = any(row.state == "WAITING" and row.retry_of is None for row in rows)
        if chosen and len(rows) > self.total:
            session.display.say(f"{len(rows)} trials with those that are enqueued, so more than --trials {self.total}")
            self.total = session.display.total = len(rows)
        self._rows = rows
        self._failures = 0  # consecutive
        self._scores: SeedScores | None = None
        if plan.seeds > 1:
            self._scores = SeedScores(session, study.experiment_id, study.name, plan.seeds, self._report_mean)

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
        if self._scores is not None and (another := self._scores.next()) is not None:
            return another
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
        given = {key: value for key, value in session.options.tags.items() if not key.startswith("mlflow.")}
        if run_id is None and reopened:  # a driver may have died between opening its run and binding it
            run_id = session.tracking.now.find_run(tags, self.study.experiment_id)
        if run_id is None or row.run_id is None:
            if run_id is not None:  # possibly set by `harness doctor`
                session.tracking.soon.delete_tag(run_id, "harness.outcome")
            tags["mlflow.parentRunId"] = self.study.parent
            tags["harness.provenance"] = self.study.provenance
            tags[TRIALS_OF] = self.study.name
            # What trains this one again; the study's command is in the provenance.
            tags["mlflow.source.name"] = f"harness train --from {self.study.name}/{row.number}"
            if row.enqueued:
                tags["harness.enqueued"] = "yes"
            if row.retry_of is not None:
                tags["harness.retry_of"] = str(row.retry_of)
            sections, seed = self.experiment.with_params(row.params), self._seed(row)
            run_id, _ = session.start_run(
                self.study.experiment_id,
                f"trial {row.number}",
                sections,
                seed,
                given | tags,
                row.params,
                adopted=run_id,
            )
            self.search.bind(row.number, run_id)
        else:
            session.tracking.soon.reopen(run_id)
            session.tracking.soon.delete_tag(run_id, "harness.outcome")
            session.put_parameters(run_id, row.params, self._seed(row))
        return self._spec_of(row, run_id)

    def _seed(self, row: TrialRow) -> int:
        """A trial's training seed; a retry has the seed of the failed trial."""
        if self._scores is not None:
            return self._scores.seed()
        return derive_seed(self.experiment.seed, row.number if row.retry_of is None else row.retry_of, "training")

    def _spec_of(self, row: TrialRow, run_id: str) -> TrialSpec:
        return TrialSpec(
            run_id=run_id,
            experiment=self.experiment.with_params(row.params),
            seed=self._seed(row),
            folder=str(self.session.state_folder.trial_folder(run_id)),
            name=self.experiment.name,
            study=self.study.name,
            number=row.number,
            params=row.params,
            metric=self.study.plan.metric,
            direction=self.study.plan.direction,
            further=self.study.plan.further,
            pruning=self.study.plan.pruner != "none",
            search_path=self.experiment.search_path,
            data_sets=self.session.data.splits,
            trusted=self.session.trusts,
        )

    def report(self, spec: TrialSpec, count: int, value: float, further: dict[str, float]) -> bool:
        if self._scores is not None:
            if spec.study is None:  # a replicate: only its end counts
                return False
            self._scores.reported(spec.number, count)
        return self.search.report(spec.number, count, value, further)

    def _report_mean(self, number: int, step: int, mean: float, further: dict[str, float]) -> bool:
        return self.search.report(number, step, mean, further) and self.study.plan.pruner != "none"

    def write(self) -> None:
        self.search.write()

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending | None:
        if self._scores is not None:
            whole = self._scores.ended(spec, ending)
            if whole is None:
                return None
            ending = whole
        if ending.state != "INTERRUPTED":  # it stays RUNNING in Optuna, and the next start resumes it
            self.search.tell(spec.number, ending.state, ending.value, ending.further)
            self._failures = self._failures + 1 if ending.state == "FAIL" else 0
            if self.gave_up:
                self.session.display.say(
                    f"{self._failures} trials in a row have failed: the study ends (--max-failures)"
                )
        return ending
