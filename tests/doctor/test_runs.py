"""What the doctor finds in runs and trials, and what it asks MLflow and Optuna to do about it; both are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import Calls, FakeSearch, log

from studies.common.locks import Lease, this_process
from studies.common.state_folder import StateFolder
from studies.doctor import runs
from studies.doctor.finding import Finding
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Event, Failed, Finished, Report, Started, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.search import TrialRow
from studies.tracking.run_info import RunInfo

TAGS = {"harness.kind": "trial", "harness.study": "s", "harness.trial": "0"}
STARTED = Started(1, "here", "cpu", {})
ENDINGS: dict[str | None, Event] = {
    "COMPLETE": Finished({}),
    "PRUNED": Stopped("pruned", {}),
    "INTERRUPTED": Stopped("interrupted", {}),
    "FAIL": Failed("it broke", "traceback"),
}


def run(run_id: str, status: str = "FINISHED", outcome: str | None = None, **fields: Any) -> RunInfo:
    tags = {**TAGS, **({"harness.outcome": outcome} if outcome else {}), **fields.pop("tags", {})}
    return replace(RunInfo(run_id, "toy", "s", "trial 0", "trial", status, 1.0, tags=tags), **fields)


class State:
    """A state folder, and stand-ins for MLflow and for one study, s.

    Args:
        rows: trials of the study.
        known: runs that MLflow has.
        deleted: runs that were deleted in its UI.
        files: run id -> path below its artifacts -> bytes, as MLflow has them.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        rows: Sequence[TrialRow] = (),
        known: Sequence[RunInfo] = (),
        deleted: Sequence[RunInfo] = (),
        files: dict[str, dict[str, int]] | None = None,
    ) -> None:
        self.state_folder = StateFolder(folder, "", "")
        self.search: Any = FakeSearch(rows)
        self.search.definition = {"experiment": {"name": "of the study"}}
        self.tracking: Any = Calls(
            runs=list(known),
            deleted_runs=list(deleted),
            experiment="7",
            start="new",
            find_run="parent",
        )
        self.tracking.now.__dict__["files"] = lambda run_id: (files or {}).get(run_id, {})
        monkeypatch.setattr(runs, "study_names", lambda storage: ["s"])
        monkeypatch.setattr(runs, "Search", SimpleNamespace(existing=lambda storage, name: self.search))

    def wrote(self, run_id: str, *events: Event, **fields: Any) -> Path:
        """Makes the folder of a trial that has emitted these events."""
        folder = self.state_folder.trial_folder(run_id)
        TrialSpec(run_id, {"trainer": {"max_epochs": 2}}, 0, str(folder), metric="m", **fields).save()
        log(folder, events)
        return folder

    def found(self) -> list[Finding]:
        return runs.Examination(self.state_folder, self.tracking).examine()

    def mended(self) -> list[tuple[Any, ...]]:
        """What mending the only finding asks of MLflow."""
        (finding,) = self.found()
        self.tracking.made.clear()
        finding.mend()
        return list(self.tracking.made)


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_runs_of_an_unbound_trial_the_newest_is_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    """The one that the next start of the study finds."""
    known = [run(name, "RUNNING", start_time=time) for name, time in (("older", 1.0), ("newest", 3.0), ("old", 2.0))]
    others = [
        run("other trial", "RUNNING", start_time=9.0, tags={"harness.trial": "1"}),
        run("other study", "RUNNING", start_time=9.0, tags={"harness.study": "t"}),
    ]
    state = State(tmp_path, monkeypatch, [TrialRow(0, "RUNNING", None)], [*known[::order], *others])
    examination = runs.Examination(state.state_folder, state.tracking)
    assert [row.run_id for row in examination.rows["s"]] == ["newest"]


@pytest.mark.parametrize("row", [TrialRow(0, "COMPLETE", 1.0), TrialRow(0, "RUNNING", None, run_id="bound")])
def test_trials_that_ended_or_are_bound_are_given_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: TrialRow
) -> None:
    state = State(tmp_path, monkeypatch, [row], [run("newest", "RUNNING")])
    assert runs.Examination(state.state_folder, state.tracking).rows["s"] == [row]


AGREE = [
    ("COMPLETE", "FINISHED", None, "COMPLETE"),
    ("PRUNED", "KILLED", "pruned", "PRUNED"),
    ("FAIL", "FAILED", "failed", "FAIL"),
    ("RUNNING", "KILLED", "interrupted", "INTERRUPTED"),
    ("RUNNING", "KILLED", "interrupted", None),
    ("WAITING", "KILLED", "interrupted", None),
]


@pytest.mark.parametrize(("optuna", "status", "outcome", "own"), AGREE)
def test_states_that_agree_are_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optuna: str, status: str, outcome: str | None, own: str | None
) -> None:
    state = State(tmp_path, monkeypatch, [TrialRow(0, optuna, 0.5, run_id="a")], [run("a", status, outcome)])
    state.wrote("a", STARTED, Report(0, 0, 0.5), *([ENDINGS[own]] if own else []))
    (tmp_path / "trials" / "a" / "log.txt").touch()
    found = [finding for finding in state.found() if finding.kind != "artifact-missing"]
    assert found == []


DISAGREE = [
    ("COMPLETE", "RUNNING", None, "no-process", "copy its log to MLflow, and set the run to FINISHED"),
    ("PRUNED", "RUNNING", None, "no-process", "copy its log to MLflow, and set the run to KILLED (pruned)"),
    ("RUNNING", "RUNNING", None, "no-process", "copy its log to MLflow, and set the run to KILLED (interrupted)"),
    ("COMPLETE", "FAILED", "failed", "states-disagree", "copy its log to MLflow, and set the run to FINISHED"),
    ("FAIL", "KILLED", "failed", "states-disagree", "copy its log to MLflow, and set the run to FAILED (failed)"),
    ("COMPLETE", "FINISHED", "pruned", "states-disagree", "copy its log to MLflow, and set the run to FINISHED"),
    ("COMPLETE", "KILLED", "interrupted", "states-disagree", "copy its log to MLflow, and set the run to FINISHED"),
]


@pytest.mark.parametrize(("optuna", "status", "outcome", "kind", "fix"), DISAGREE)
def test_mlflow_is_set_to_what_optuna_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optuna: str,
    status: str,
    outcome: str | None,
    kind: str,
    fix: str,
) -> None:
    state = State(tmp_path, monkeypatch, [TrialRow(0, optuna, 0.5, run_id="a")], [run("a", status, outcome)])
    state.wrote("a", STARTED, Report(0, 0, 0.5))
    found = [finding for finding in state.found() if finding.kind != "artifact-missing"]
    text = f"study s, trial 0: Optuna says {optuna}, MLflow {status}"
    text += ", but no process is running it" if kind == "no-process" else ""
    assert [(finding.kind, finding.where, finding.fix) for finding in found] == [(kind, text, fix)]
    state.tracking.made.clear()
    found[0].mend()
    expected = runs.STATUSES[optuna if optuna in runs.STATUSES else "INTERRUPTED"]
    assert state.tracking.made[-1] == ("end", "a", *expected)
    assert (("delete_tag", "a", "harness.outcome") in state.tracking.made) == (optuna == "COMPLETE")
    assert any(call[0] == "log" and call[2] == STARTED for call in state.tracking.made), "its log is copied"


@pytest.mark.parametrize(("own", "value"), [("COMPLETE", 0.5), ("PRUNED", 0.5), ("FAIL", 0.5)])
def test_optuna_is_told_what_a_trial_says_of_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, value: float
) -> None:
    rows = [TrialRow(3, "RUNNING", None, run_id="a")]
    state = State(tmp_path, monkeypatch, rows, [run("a", "RUNNING")])
    state.search.rows = [TrialRow(number, "COMPLETE", 1.0) for number in range(3)] + rows
    state.wrote("a", STARTED, Report(0, 0, 0.5), ENDINGS[own])
    (finding,) = state.found()
    assert finding.kind == "states-disagree" and finding.fix == f"set Optuna's state from its log: {own}"
    assert finding.where == "study s, trial 3 has ended, but Optuna says RUNNING"
    finding.mend()
    assert state.search.made == [("reopen", 3), ("bind", 3, "a"), ("tell", 3, own, value, {})]
    assert state.tracking.made[-1] == ("end", "a", *runs.STATUSES[own])


@pytest.mark.parametrize(("done", "sound"), [(False, True), (True, False)])
def test_an_extension_that_was_interrupted_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool, sound: bool
) -> None:
    row = TrialRow(0, "COMPLETE", 0.5, run_id="a", extension={"epochs": 5, "done": done})
    state = State(tmp_path, monkeypatch, [row], [run("a", "KILLED", "interrupted")])
    state.wrote("a", STARTED, Report(0, 0, 0.5))
    assert ([finding for finding in state.found() if finding.kind == "states-disagree"] == []) == sound


def test_what_a_live_driver_works_on_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [run("a", "RUNNING"), run("orphan", "RUNNING")]
    deleted = [run("b")]
    rows = [TrialRow(0, "COMPLETE", 0.5, run_id="a"), TrialRow(1, "COMPLETE", 0.5, run_id="b")]
    state = State(tmp_path, monkeypatch, rows, known, deleted)
    state.wrote("missing", STARTED, study="s")
    lease = Lease(state.state_folder.lease("s"))
    lease.take()
    assert state.found() == []
    lease.release()
    kinds = {finding.kind for finding in state.found()}
    assert kinds == {"no-process", "no-study", "run-deleted", "run-missing"}


def test_deleted_runs_of_a_study_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = replace(run("parent"), kind="study", name="study s")
    deleted = [run("a"), run("unknown trial"), parent, replace(run("single"), kind="run", study=None)]
    state = State(tmp_path, monkeypatch, [TrialRow(0, "COMPLETE", 0.5, run_id="a")], [], deleted)
    found = state.found()
    assert [(finding.kind, finding.where, finding.fix) for finding in found] == [
        ("run-deleted", "run a (trial 0) of study s is deleted in MLflow", "restore it"),
        ("run-deleted", "run parent (study s) of study s is deleted in MLflow", "restore it"),
    ]
    state.tracking.made.clear()
    for finding in found:
        finding.mend()
    assert state.tracking.made == [("restore", "a"), ("restore", "parent")]


def test_a_deleted_parent_that_has_a_successor_stays_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = replace(run("old"), kind="study")
    state = State(tmp_path, monkeypatch, [], [replace(parent, run_id="new")], [parent])
    assert state.found() == []


@pytest.mark.parametrize(
    ("status", "outcome", "found"),
    [("FINISHED", None, True), ("RUNNING", runs.ORPHANED, True), ("KILLED", runs.ORPHANED, False)],
)
def test_runs_of_trials_that_no_study_has_are_orphans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, outcome: str | None, found: bool
) -> None:
    state = State(tmp_path, monkeypatch, [], [run("a", status, outcome)])
    (tmp_path / "trials" / "a" / "checkpoints").mkdir(parents=True)
    findings = [finding for finding in state.found() if finding.kind == "no-study"]
    assert len(findings) == found
    if found:
        assert findings[0].where == "run a belongs to trial 0 of study s, which does not exist or has another run"
        state.tracking.made.clear()
        findings[0].mend()
        assert state.tracking.made == [("end", "a", "KILLED", runs.ORPHANED)]


def test_a_study_that_nobody_drives_is_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path, monkeypatch, [], [replace(run("a", "RUNNING"), kind="study")])
    assert state.mended() == [("end", "a", "KILLED", "interrupted")]


@pytest.mark.parametrize(
    ("own", "status"), [("COMPLETE", "FINISHED"), ("FAIL", "FAILED"), ("INTERRUPTED", "KILLED"), (None, "KILLED")]
)
def test_a_single_run_whose_process_is_gone_ends_as_its_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, status: str
) -> None:
    dead = replace(run("a", "RUNNING", tags={"harness.driver": "edited"}), kind="run", study=None)
    state = State(tmp_path, monkeypatch, [], [dead])
    state.wrote("a", STARTED, Report(0, 0, 0.5), *([ENDINGS[own]] if own else []))
    (finding,) = state.found()
    assert (finding.kind, finding.where) == ("no-process", "run a: no process is running it")
    assert finding.fix == f"copy its log to MLflow, set it to {status}"
    assert state.mended()[-1][:3] == ("end", "a", status)


def test_a_single_run_whose_process_lives_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = replace(run("a", "RUNNING", tags={"harness.driver": this_process()}), kind="run", study=None)
    assert State(tmp_path, monkeypatch, [], [living]).found() == []
    nobody = replace(run("a", "RUNNING"), kind="run", study=None)
    assert [finding.kind for finding in State(tmp_path, monkeypatch, [], [nobody]).found()] == ["no-process"]


class Artifacts(State):
    """A sound run, a, with a log, a best checkpoint and a picture."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, status: str = "FINISHED", **tags: str) -> None:
        self.sizes = {"pictures/loss.png": 3, "log.txt": 5}
        its = replace(run("a", status, tags=tags), kind="run", study=None)
        super().__init__(folder, monkeypatch, [], [its], files={"a": self.sizes})
        self.folder = self.wrote("a", STARTED, Report(0, 0, 0.5), ENDINGS["COMPLETE"])
        self.best = self.folder / "checkpoints" / "best.ckpt"
        for path, size in (("artifacts/pictures/loss.png", 3), ("log.txt", 5)):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(b"x" * size)
        self.best.parent.mkdir()
        torch.save({"weight": 1.0}, self.best)
        self.sizes["checkpoints/best.ckpt"] = self.best.stat().st_size


def test_files_that_are_the_same_here_and_there_are_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Artifacts(tmp_path, monkeypatch).found() == []


@pytest.mark.parametrize(("name", "to"), [("pictures/loss.png", "pictures"), ("log.txt", None)])
@pytest.mark.parametrize("size", [None, 2])
def test_a_file_that_mlflow_has_not_or_not_whole_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: str | None, size: int | None
) -> None:
    state = Artifacts(tmp_path, monkeypatch)
    del state.sizes[name]
    if size is not None:
        state.sizes[name] = size
    (finding,) = state.found()
    assert (finding.kind, finding.where) == ("artifact-missing", f"run a: {name}")
    path = state.folder / name if name == "log.txt" else state.folder / "artifacts" / name
    assert state.mended() == [("log_files", "a", path, to)]


def test_a_best_checkpoint_that_mlflow_has_alone_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Artifacts(tmp_path, monkeypatch)
    copy = tmp_path / "copy.ckpt"
    state.best.rename(copy)
    state.tracking._answers["fetch"] = copy
    (finding,) = state.found()
    assert (finding.kind, finding.fix) == ("checkpoint", "copy it back from MLflow")
    (fetched,) = state.mended()
    assert fetched[:3] == ("fetch", "a", "checkpoints/best.ckpt")
    assert state.best.read_bytes() == copy.read_bytes() and state.found() == []


def test_a_best_checkpoint_that_is_broken_there_too_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Artifacts(tmp_path, monkeypatch, **{runs.LOST: json.dumps(["other"])})
    state.best.unlink()
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"half")
    state.tracking._answers["fetch"] = broken
    assert state.mended()[1:] == [("set_tags", "a", {runs.LOST: json.dumps(["other", "checkpoints/best.ckpt"])})]
    assert not state.best.exists()


def test_a_file_that_is_nowhere_is_said_to_be_lost_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Artifacts(tmp_path, monkeypatch)
    state.best.unlink()
    del state.sizes["checkpoints/best.ckpt"]
    (finding,) = state.found()
    assert finding.kind == "artifact-missing" and runs.LOST in finding.fix
    lost = {runs.LOST: json.dumps(["checkpoints/best.ckpt"])}
    assert state.mended() == [("set_tags", "a", lost)]
    assert State.found(_without(Artifacts(tmp_path / "b", monkeypatch, **lost))) == []


def _without(state: Artifacts) -> Artifacts:
    state.best.unlink()
    del state.sizes["checkpoints/best.ckpt"]
    return state


@pytest.mark.parametrize("tag", ["edited by hand", "5", '{"a": 1}'])
def test_a_tag_of_lost_files_that_somebody_edited_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    state = _without(Artifacts(tmp_path, monkeypatch, **{runs.LOST: tag}))
    assert state.mended() == [("set_tags", "a", {runs.LOST: json.dumps(["checkpoints/best.ckpt"])})]


def test_files_of_a_run_that_did_not_finish_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _without(Artifacts(tmp_path, monkeypatch, "KILLED")).found() == []


def test_files_of_studies_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path, monkeypatch, [], [replace(run("a"), kind="study")])
    state.wrote("a", STARTED)
    (tmp_path / "trials" / "a" / "log.txt").touch()
    assert state.found() == []


@pytest.mark.parametrize("recorded", ["COMPLETE", None])
def test_a_trial_that_mlflow_does_not_know_gets_a_new_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None
) -> None:
    rows = [TrialRow(0, "PRUNED", 0.5, run_id="other"), TrialRow(1, recorded or "RUNNING", 0.5, run_id="a")]
    state = State(tmp_path, monkeypatch, rows)
    state.wrote("a", STARTED, Report(0, 0, 0.5), study="s", number=1)
    (finding,) = state.found()
    assert finding.kind == "run-missing" and finding.where == f"{tmp_path}/trials/a: MLflow has no run a"
    made = state.mended()
    assert ("experiment", "of the study") in made
    (started,) = [call for call in made if call[0] == "start"]
    assert started[1:3] == ("7", "trial 1") and started[3] == {"trainer.max_epochs": 2, "seed": 0}
    assert started[4] == {
        "harness.experiment": "of the study",
        "harness.recreated": "a",
        "harness.kind": "trial",
        "harness.study": "s",
        "harness.trial": "1",
        "mlflow.parentRunId": "parent",
    }
    assert state.search.made == [("rebind", 1, "new")]
    assert made[-1] == ("end", "new", *runs.STATUSES[recorded or "INTERRUPTED"])
    assert not (tmp_path / "trials" / "a").exists()
    spec = TrialSpec.load(tmp_path / "trials" / "new" / "spec.json")
    assert (spec.run_id, spec.folder) == ("new", str(tmp_path / "trials" / "new"))


def test_a_study_that_mlflow_does_not_know_gets_a_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path, monkeypatch, [TrialRow(1, "COMPLETE", 0.5, run_id="a")])
    state.tracking._answers["find_run"] = None
    state.wrote("a", STARTED, study="s", number=1)
    made = state.mended()
    parent, trial = [call for call in made if call[0] == "start"]
    tags = {"harness.kind": "study", "harness.study": "s", "harness.experiment": "of the study"}
    assert parent == ("start", "7", "study s", {}, tags) and trial[2] == "trial 1"
    assert ("find_run", {"harness.kind": "study", "harness.study": "s"}, "7") in made
    assert ("end", "new", "KILLED", "interrupted") in made


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("harness train some/toy.yaml --seed 3", "toy"),
        ("harness train", "recovered"),
        (None, "recovered"),
        ("'", "recovered"),
    ],
)
def test_a_single_run_that_mlflow_does_not_know_is_named_by_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str | None, name: str
) -> None:
    state = State(tmp_path, monkeypatch)
    folder = state.wrote("a", STARTED, Report(0, 0, 0.5), ENDINGS["COMPLETE"])
    if command is not None:
        provenance = folder / "artifacts" / "provenance"
        provenance.mkdir(parents=True)
        (provenance / "command.txt").write_text(command)
    made = state.mended()
    (started,) = [call for call in made if call[0] == "start"]
    assert started[2] == f"{name} seed 0"
    assert started[4] == {"harness.experiment": name, "harness.kind": "run", "harness.recreated": "a"}
    assert made[-1] == ("end", "new", "FINISHED", None) and state.search.made == []


def test_folders_that_are_known_written_or_unreadable_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(run("known", "RUNNING", tags={"harness.driver": this_process()}), kind="run", study=None)
    gone = replace(run("deleted"), kind="run", study=None)
    state = State(tmp_path, monkeypatch, [], [known], [gone])
    for name in ("known", "deleted", "written", "broken"):
        state.wrote(name, STARTED)
    (state.state_folder.trial_folder("broken") / "spec.json").write_text("{}")
    writer = EventWriter(state.state_folder.trial_folder("written") / NAME)
    assert state.found() == []
    writer.close()
    assert [finding.kind for finding in state.found()] == ["run-missing"]


def test_the_log_of_a_trial_without_a_spec_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path, monkeypatch, [TrialRow(0, "RUNNING", None, run_id="a")], [run("a", "RUNNING")])
    log(state.state_folder.trial_folder("a"), [STARTED, ENDINGS["PRUNED"]])
    (finding,) = state.found()
    assert finding.fix == "set Optuna's state from its log: PRUNED"
