"""Checks whether Optuna, MLflow, the trials' logs and the live processes agree about runs and trials."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from studies.common.atomic_files import temporary_name, write_whole
from studies.common.locks import Lease, may_live
from studies.common.regular_files import files_in, read_text
from studies.common.state_folder import StateFolder, is_run_id
from studies.common.trust import leads_out
from studies.config.parameters import flat_parameters
from studies.doctor.finding import Count, Finding, move_aside, silently
from studies.protocol.checkpoint_files import BEST, is_whole
from studies.protocol.checkpoint_files import FOLDER as CHECKPOINTS
from studies.protocol.event_log import NAME, is_being_written
from studies.protocol.output_log import output_log
from studies.protocol.trial_spec import TrialSpec
from studies.search import NotOurs, Search, TrialRow, study_names
from studies.tracking.artifact_folder import local_files, local_folder
from studies.tracking.queue import TrackingQueue
from studies.tracking.run_info import PARENTS
from studies.tracking.trial_log import STATUSES, TrialRecord

if TYPE_CHECKING:
    from studies.tracking.run_info import RunInfo

ORPHANED = "orphaned"  # outcome of a run whose trial is in no study
LOST = "harness.lost"  # tag: files of a run that no longer exist anywhere


class Examination:
    """One check of everything that no live process is working on.

    Args:
        state_folder: the state folder to check.
        tracking: a connected queue.
        count: shows how many have been looked at.
    """

    def __init__(self, state_folder: StateFolder, tracking: TrackingQueue, count: Count = silently) -> None:
        self.state_folder, self.root = state_folder, state_folder.folder.resolve()
        self.count = count
        self.tracking = tracking
        self.findings: list[Finding] = []
        self.unread: set[str] = set()  # studies in Optuna's database that cannot be read
        names = study_names(state_folder.storage)
        # Live processes first, then state: a process that starts in between must not be mistaken for a dead one.
        self.busy = {name for name in names if Lease(state_folder.lease(name)).is_held}
        self.studies = dict(self._studies(names))
        self.rows = {name: search.trials() for name, search in self.studies.items()}
        every = tracking.now.runs(None, None, 1_000_000)
        self.runs: dict[str, RunInfo] = {run.run_id: run for run in every if is_run_id(run.run_id)}
        self.deleted: dict[str, RunInfo] = {run.run_id: run for run in tracking.now.deleted_runs()}
        for name in set(self.studies) - self.busy:
            self.rows[name] = [self._with_its_run(name, row) for row in self.rows[name]]
        self.bound = {row.run_id for rows in self.rows.values() for row in rows}

    def _studies(self, names: list[str]) -> Iterator[tuple[str, Search]]:
        for name in names:
            try:
                search = Search.existing(self.state_folder.storage, name)
                str(search.definition["experiment"]["name"])
                yield name, search
            except NotOurs:
                self.unread.add(name)
            except (ValueError, KeyError, TypeError) as error:
                self.unread.add(name)
                where = str(error) if type(error) is ValueError else f"study {name} names no experiment"
                fix = "none: its runs stay in MLflow; Optuna's `optuna delete-study` removes it"
                self._find("study", where, fix, lambda: None)

    def _with_its_run(self, study: str, row: TrialRow) -> TrialRow:
        """A trial; if its driver died before storing its run id, with the run that the next start will find."""
        if row.run_id is not None or row.state not in ("RUNNING", "WAITING"):
            return row
        tags = {"harness.kind": "trial", "harness.study": study, "harness.trial": str(row.number)}
        its = [run for run in self.runs.values() if tags.items() <= run.tags.items()]
        return replace(row, run_id=max(its, key=lambda run: run.start_time).run_id) if its else row

    def examine(self) -> list[Finding]:
        for name in sorted(set(self.studies) - self.busy):
            for row in self.rows[name]:
                self._trial(name, row)
        self._deleted()
        for folder in sorted(self.state_folder.folder.glob("trials/*")):
            if folder.name not in self.runs and (folder / "spec.json").exists():
                self._folder(folder)
        for run in self.count(list(self.runs.values()), "comparing Optuna, MLflow, logs and processes"):
            if run.study not in self.busy:
                self._run(run)
                self._artifacts(run)
        return self.findings

    def _find(self, kind: str, where: str, fix: str, mend: Callable[[], None]) -> None:
        self.findings.append(Finding(kind, where, fix, mend))

    # -- a trial -------------------------------------------------------------------------------------------

    def _trial(self, study: str, row: TrialRow) -> None:
        """Compares Optuna's state, MLflow's status and the log's last event; see the table in docs/architecture.md."""
        if row.run_id is None or row.run_id not in self.runs:  # no id that is a path is among them
            return  # the next start opens a run for it; see also _folder
        where, run = f"study {study}, trial {row.number}", self.runs[row.run_id]
        expected = row.state if row.state in STATUSES else "INTERRUPTED"
        own = self._record(row.run_id).state if expected == "INTERRUPTED" else None
        if own == "COMPLETE" and self.studies[study].definition.get("seeds", 1) > 1:
            expected, own = own, None  # its first run has ended, and the trial goes on with another seed
        if own is not None and own != "INTERRUPTED":
            fix = f"set Optuna's state from its log: {own}"
            mend = partial(self._close, study, row, own)
            self._find("states-disagree", f"{where} has ended, but Optuna says {row.state}", fix, mend)
            return
        status, outcome = STATUSES[expected]
        right = [STATUSES[expected]]
        if row.extension and not row.extension["done"]:
            right.append(STATUSES["INTERRUPTED"])
        if (run.status, run.tags.get("harness.outcome")) in right:
            return
        fix = f"copy its log to MLflow, and set the run to {status}" + (f" ({outcome})" if outcome else "")
        text = f"{where}: Optuna says {row.state}, MLflow {run.status}"
        mend = partial(self._end, row.run_id, expected)
        if run.status == "RUNNING":
            self._find("no-process", f"{text}, but no process is running it", fix, mend)
        else:
            self._find("states-disagree", text, fix, mend)

    def _close(self, study: str, row: TrialRow, state: str) -> None:
        assert row.run_id is not None
        search = self.studies[study]
        search.reopen(row.number)
        search.bind(row.number, row.run_id)
        record = self._record(row.run_id)
        search.tell(row.number, state, record.value, record.further)
        self._end(row.run_id, state)

    def _record(self, run_id: str, tracking: TrackingQueue | None = None) -> TrialRecord:
        folder = self.state_folder.trial_folder(run_id)
        try:
            spec = replace(TrialSpec.load(folder / "spec.json"), run_id=run_id, folder=str(folder))
        except (OSError, ValueError, TypeError):  # its driver died before writing it
            spec = TrialSpec(run_id, {}, 0, str(folder))
        record = TrialRecord(spec, tracking)
        record.read()
        return record

    def _end(self, run_id: str, state: str) -> None:
        """Sends a trial's whole log and its end to MLflow; not if a link leads out of the state folder."""
        folder = self.state_folder.trial_folder(run_id)
        if leads_out(folder, self.root):
            self.tracking.soon.end(run_id, *STATUSES[state])
            return
        if STATUSES[state][1] is None:
            self.tracking.soon.delete_tag(run_id, "harness.outcome")
        self._record(run_id, self.tracking).end_as(state)

    # -- a run ---------------------------------------------------------------------------------------------

    def _deleted(self) -> None:
        """Finds runs of studies that were deleted in MLflow's UI. Single runs may stay deleted."""
        parents = {run.study for run in self.runs.values() if run.kind == "study"}
        for run in self.deleted.values():
            is_parent = run.kind == "study" and run.study not in parents
            if run.study in set(self.studies) - self.busy and (run.run_id in self.bound or is_parent):
                where = f"run {run.run_id} ({run.name}) of study {run.study} is deleted in MLflow"
                mend = partial(self.tracking.soon.restore, run.run_id)
                self._find("run-deleted", where, "restore it", mend)

    def _run(self, run: RunInfo) -> None:
        if run.study in self.unread:
            return  # nothing is known of its trials
        if run.kind == "trial" and run.run_id not in self.bound:
            if run.tags.get("harness.outcome") != ORPHANED or run.status == "RUNNING":
                trial = f"trial {run.tags.get('harness.trial')} of study {run.study}"
                where = f"run {run.run_id} belongs to {trial}, which does not exist or has another run"
                mend = partial(self.tracking.soon.end, run.run_id, "KILLED", ORPHANED)
                self._find("no-study", where, f"keep it, set it to KILLED ({ORPHANED})", mend)
        elif run.status == "RUNNING" and run.kind == "study":
            where = f"run {run.run_id} of study {run.study}: no process is running it"
            mend = partial(self.tracking.soon.end, run.run_id, "KILLED", "interrupted")
            self._find("no-process", where, "set it to KILLED (interrupted); the same `harness study` resumes it", mend)
        elif run.status == "RUNNING" and run.kind in PARENTS and not self._lives(run):
            again = "harness resume" if run.kind == "replicates" else "the same `harness confirm`"
            where = f"run {run.run_id} ({run.name}): no process is running it"
            mend = partial(self.tracking.soon.end, run.run_id, "KILLED", "interrupted")
            self._find("no-process", where, f"set it to KILLED (interrupted); {again} resumes it", mend)
        elif run.status == "RUNNING" and run.kind == "run" and not self._lives(run):
            state = self._record(run.run_id).state or "INTERRUPTED"
            where = f"run {run.run_id}: no process is running it"
            fix = f"copy its log to MLflow, set it to {STATUSES[state][0]}"
            self._find("no-process", where, fix, partial(self._end, run.run_id, state))

    def _lives(self, run: RunInfo) -> bool:
        driver = run.tags.get("harness.driver")
        return driver is not None and may_live(driver)

    def _artifacts(self, run: RunInfo) -> None:
        """Finds files of the trial's folder that are missing or incomplete in MLflow, and vice versa."""
        if run.status == "RUNNING" or run.kind not in ("run", "trial"):
            return
        folder, there = self.state_folder.trial_folder(run.run_id), local_files(run.artifact_uri)
        if there is None:
            there = self.tracking.now.files(run.run_id)
        if not folder.resolve().is_relative_to(self.root):
            return  # of a link neither the target is copied, nor is it written to
        artifacts = folder / "artifacts"
        is_its_own = artifacts == local_folder(run.artifact_uri) or artifacts.is_symlink()
        wanted = {} if is_its_own else {name: artifacts / name for name in files_in(artifacts)}
        checkpoint = f"{CHECKPOINTS}/{BEST}"
        wanted.setdefault("log.txt", output_log(folder))
        has_model = "function" not in run.params  # a function keeps what it likes
        if has_model and not (folder / CHECKPOINTS).is_symlink():
            wanted[checkpoint] = folder / CHECKPOINTS / BEST
        lost = _lost(run)
        for name, path in wanted.items():
            if path.is_symlink():
                continue
            where = f"run {run.run_id}: {name}"
            if path.exists() and not path.is_file():
                mend = partial(move_aside, path)
                self._find("artifact-missing", f"{where} is no regular file", "move it aside", mend)
            elif path.exists() and there.get(name) != path.stat().st_size:
                to = str(Path(name).parent) if "/" in name else None
                mend = partial(self.tracking.soon.log_files, run.run_id, path, to)
                self._find("artifact-missing", where, "copy it from the trial's folder", mend)
            elif not path.exists() and name in there and name == checkpoint:
                mend = partial(self._fetch, run.run_id, name, path, lost)
                self._find("checkpoint", f"{where} is not in its folder", "copy it back from MLflow", mend)
            elif not path.exists() and name not in there and run.status == "FINISHED" and name not in lost:
                mend = partial(self.tracking.soon.set_tags, run.run_id, {LOST: json.dumps([*lost, name])})
                self._find("artifact-missing", where, f"none: it exists nowhere; the tag {LOST} will say so", mend)

    def _fetch(self, run_id: str, name: str, path: Path, lost: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = self.tracking.now.fetch(run_id, name, Path(folder))
            if is_whole(copy):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = temporary_name(path)
                temporary.write_bytes(copy.read_bytes())
                temporary.replace(path)
            else:
                self.tracking.soon.set_tags(run_id, {LOST: json.dumps([*lost, name])})

    # -- a folder ------------------------------------------------------------------------------------------

    def _folder(self, folder: Path) -> None:
        """Finds trial folders whose run MLflow does not have; the run can be recreated from the folder."""
        if folder.name in self.runs or folder.name in self.deleted or is_being_written(folder / NAME):
            return
        if folder.is_symlink() or (folder / "spec.json").is_symlink():
            return
        try:
            spec = replace(TrialSpec.load(folder / "spec.json"), run_id=folder.name)  # whatever it says of itself
        except (OSError, ValueError):
            return
        if spec.study not in self.busy:
            where = f"{folder}: MLflow has no run {folder.name}"
            self._find("run-missing", where, "recreate the run from the trial's log", partial(self._recreate, spec))

    def _recreate(self, spec: TrialSpec) -> None:
        old = self.state_folder.trial_folder(spec.run_id)
        row = next((row for row in self.rows.get(spec.study or "", []) if row.run_id == spec.run_id), None)
        name = _experiment_of(old)
        if spec.study in self.studies:
            name = self.studies[spec.study].definition["experiment"]["name"]
        experiment_id = self.tracking.now.experiment(name)
        tags = {"harness.experiment": name, "harness.kind": "run", "harness.recreated": spec.run_id}
        title = f"{name} seed {spec.seed}"
        if spec.study is not None:
            tags |= {"harness.kind": "trial", "harness.study": spec.study, "harness.trial": str(spec.number)}
            tags["mlflow.parentRunId"] = self._parent(experiment_id, name, spec.study)
            title = f"trial {spec.number}"
        params = {**flat_parameters(spec.experiment), "seed": spec.seed}
        run_id = self.tracking.now.start(experiment_id, title, params, tags)
        new = self.state_folder.trial_folder(run_id)
        write_whole(old / "spec.json", json.dumps(asdict(replace(spec, run_id=run_id, folder=str(new))), indent=1))
        old.rename(new)
        state = self._record(run_id).state or "INTERRUPTED"
        if row is not None and spec.study is not None:
            self.studies[spec.study].rebind(row.number, run_id)
            state = row.state if row.state in STATUSES else state
        self._end(run_id, state)

    def _parent(self, experiment_id: str, name: str, study: str) -> str:
        tags = {"harness.kind": "study", "harness.study": study}
        found: str | None = self.tracking.now.find_run(tags, experiment_id)
        if found is None:
            found = self.tracking.now.start(experiment_id, f"study {study}", {}, {**tags, "harness.experiment": name})
            self.tracking.soon.end(found, "KILLED", "interrupted")
        return found


def _lost(run: RunInfo) -> list[str]:
    """The files that the tag lists as lost; the tag may have been edited by hand."""
    try:
        lost = json.loads(run.tags.get(LOST, "[]"))
    except (ValueError, RecursionError):
        return []
    return [name for name in lost if isinstance(name, str)] if isinstance(lost, list) else []


def _experiment_of(folder: Path) -> str:
    """The experiment name of a single run, from its stored command."""
    try:
        words = shlex.split(read_text(folder / "artifacts" / "provenance" / "command.txt", 1_000_000))
    except (OSError, ValueError):
        words = []
    return Path(words[2]).stem if len(words) > 2 else "recovered"
