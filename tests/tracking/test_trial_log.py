import os
from pathlib import Path
from typing import Any

from fakes import Calls

from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Finished, Report, Resources, Started
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import TrialRecord


def test_temporary_files_of_killed_processes_are_removed_at_the_end(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    dead, living = checkpoints / ".previous.ckpt.4194999.tmp", checkpoints / f".last.ckpt.{os.getpid()}.tmp"
    for path in (dead, living, checkpoints / "last.ckpt"):
        path.write_bytes(b"x")
    calls: Any = Calls()
    ending = TrialRecord(TrialSpec("run", {}, 0, str(tmp_path)), calls).end(Finished({}))
    assert ending.state == "COMPLETE" and calls.made[-1] == ("end", "run", "FINISHED", None)
    assert {path.name for path in checkpoints.iterdir()} == {living.name, "last.ckpt"}


def test_resource_samples_continue_their_numbering_on_resume(tmp_path: Path) -> None:
    log = EventWriter(tmp_path / NAME)
    for samples in (3, 0, 2, 1):
        log.append(Started(1, "host", "cpu", {}))
        for step in range(samples):
            log.append(Resources(step, {"system/cpu": 1.0}))
    calls: Any = Calls()
    TrialRecord(TrialSpec("run", {}, 0, str(tmp_path)), calls).read()
    assert [event.step for _, _, event in calls.made if isinstance(event, Resources)] == list(range(6))


def test_averaged_weights_determine_the_trials_value(tmp_path: Path) -> None:
    log = EventWriter(tmp_path / NAME)
    for event in (Started(1, "host", "cpu", {}), Report(1, 0, 0.5), Report(2, 1, 0.9), Finished({}, 0.7)):
        log.append(event)
    calls: Any = Calls()
    record = TrialRecord(TrialSpec("run", {}, 0, str(tmp_path), metric="val/accuracy"), calls)
    record.read()
    assert record.best == 0.9 and record.value == 0.7
    assert record.ending is not None and record.end(record.ending).value == 0.7


def test_a_report_that_a_resumed_trial_repeats_counts_once(tmp_path: Path) -> None:
    log = EventWriter(tmp_path / NAME)
    started = Started(1, "host", "cpu", {})
    for event in (started, Report(1, 0, 0.5), Report(2, 1, 0.6), started, Report(2, 1, 0.6), Report(3, 2, 0.7)):
        log.append(event)
    record = TrialRecord(TrialSpec("run", {}, 0, str(tmp_path), metric="val/accuracy"), None)
    assert [event.step for event in record.read() if isinstance(event, Report)] == [1, 2, 3]
    assert record.reports == 3
