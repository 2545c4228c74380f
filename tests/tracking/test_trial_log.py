import os
from pathlib import Path
from typing import Any

import pytest
from fakes import Calls, log

from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import (
    CheckpointSaved,
    Event,
    Failed,
    Finished,
    Metrics,
    Params,
    Report,
    Resources,
    Started,
    Stopped,
    Tags,
)
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import ERROR_LENGTH, TrialRecord


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


def record(folder: Path, *events: Event, tracking: Any = None, **fields: Any) -> TrialRecord:
    """The record of a trial that has emitted these events, and that was read."""
    log(folder, events)
    found = TrialRecord(TrialSpec("run", {}, 0, str(folder), **{"metric": "val/accuracy", **fields}), tracking)
    found.read()
    return found


STARTED = Started(1, "host", "cpu", {}, 3, 30)


def test_what_is_known_of_a_trial_before_and_after_it_has_started(tmp_path: Path) -> None:
    before = record(tmp_path / "before")
    assert (before.saved, before.reports, before.best, before.megabytes) == (-1, 0, None, None)
    assert (before.epochs, before.steps, before.newest, before.ending, before.state) == (None, None, {}, None, None)
    events = [
        STARTED,
        CheckpointSaved("last.ckpt", 20, 1),
        CheckpointSaved("best.ckpt", 10, 0),
        Resources(0, {"system/process_memory_megabytes": 150.0}),
        Resources(1, {"system/other": 1.0}),
        Metrics(1, 0, {"val/accuracy": 0.5, "epoch": 0}, 1, 1),
        Metrics(2, 1, {"val/loss": 2.0}, 2, 2),
        Finished({}),
    ]
    after = record(tmp_path / "after", *events)
    assert (after.saved, after.megabytes, after.epochs, after.steps) == (20, 150.0, 3, 30)
    assert after.newest == {"val/accuracy": 0.5, "val/loss": 2.0}
    assert isinstance(after.ending, Finished)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.1)])
def test_the_best_report_is_kept(tmp_path: Path, direction: str, best: float) -> None:
    values = [0.5, 0.9, float("nan"), 0.1, 0.4]
    found = record(tmp_path, *[Report(step, 0, value) for step, value in enumerate(values)], direction=direction)
    assert (found.best, found.reports) == (best, 5)


def test_only_what_mlflow_stores_is_sent_as_it_comes(tmp_path: Path) -> None:
    sent = [
        STARTED,
        Metrics(0, 0, {"a": 1.0}, 0, 0),
        Params({"p": "1"}),
        Tags({"t": "1"}),
        Resources(0, {"system/x": 1.0}),
    ]
    kept_back = [Report(0, 0, 1.0), CheckpointSaved("last.ckpt", 1, 0), Finished({})]
    calls: Any = Calls()
    record(tmp_path, *sent, *kept_back, tracking=calls)
    assert calls.made == [("log", "run", event) for event in sent]


def values(calls: Any) -> list[tuple[int | None, dict[str, float]]]:
    """(position, values) of the metrics that were sent."""
    return [(event.position, event.values) for _, _, event in calls.made if isinstance(event, Metrics)]


def metric(position: int, **values: float) -> Metrics:
    return Metrics(position, 0, values, position, position)


def test_metrics_that_a_resumed_trial_repeats_are_sent_once(tmp_path: Path) -> None:
    calls: Any = Calls()
    first = [metric(1, a=1.0), metric(2, a=2.0), metric(3, a=3.0)]
    again = [metric(2, a=2.0), metric(3, a=3.0), metric(4, a=4.0)]
    record(tmp_path, STARTED, *first, STARTED, *again, tracking=calls)
    assert values(calls) == [(1, {"a": 1.0}), (2, {"a": 2.0}), (3, {"a": 3.0}), (4, {"a": 4.0})]


def test_each_metric_is_compared_with_its_own_past(tmp_path: Path) -> None:
    calls: Any = Calls()
    record(tmp_path, STARTED, metric(1, a=1.0), STARTED, metric(1, a=1.0, b=2.0), metric(1, c=3.0), tracking=calls)
    assert values(calls) == [(1, {"a": 1.0}), (1, {"b": 2.0}), (1, {"c": 3.0})]


def test_a_metric_that_is_logged_several_times_at_one_batch_is_counted(tmp_path: Path) -> None:
    """Twice before the process died, three times after it: the third is new."""
    calls: Any = Calls()
    once = [metric(5, a=1.0), metric(5, a=2.0)]
    record(tmp_path, STARTED, *once, STARTED, *once, metric(5, a=3.0), metric(6, a=4.0), tracking=calls)
    assert values(calls) == [(5, {"a": 1.0}), (5, {"a": 2.0}), (5, {"a": 3.0}), (6, {"a": 4.0})]


def test_a_trial_that_died_twice_repeats_itself_twice(tmp_path: Path) -> None:
    calls: Any = Calls()
    life = [STARTED, metric(5, a=1.0), metric(5, a=2.0)]
    record(tmp_path, *life, *life, *life, metric(7, a=3.0), tracking=calls)
    assert values(calls) == [(5, {"a": 1.0}), (5, {"a": 2.0}), (7, {"a": 3.0})]


def test_an_ending_is_taken_back_by_a_new_start(tmp_path: Path) -> None:
    found = record(tmp_path, STARTED, Stopped("interrupted", {}), STARTED)
    assert found.ending is None and found.state is None


ENDINGS = [
    (Finished({"fit_seconds": 3.0}), ("COMPLETE", 0.5, 3.0, None), ("FINISHED", None)),
    (Stopped("pruned", {}), ("PRUNED", 0.5, None, None), ("KILLED", "pruned")),
    (Stopped("interrupted", {}), ("INTERRUPTED", 0.5, None, None), ("KILLED", "interrupted")),
    (Failed("it broke", "traceback"), ("FAIL", None, None, "it broke"), ("FAILED", "failed")),
]


@pytest.mark.parametrize(("event", "expected", "status"), ENDINGS)
def test_how_a_trial_ends(tmp_path: Path, event: Event, expected: tuple[Any, ...], status: tuple[Any, ...]) -> None:
    calls: Any = Calls()
    found = record(tmp_path, STARTED, metric(1, a=1.0), Report(0, 0, 0.5), event, tracking=calls)
    found.began -= 100.0
    calls.made.clear()
    assert found.ending == event
    ending = found.end(event)
    state, value, seconds, error = expected
    assert (ending.state, ending.value, ending.error) == (state, value, error) and found.state == state
    assert ending.seconds == seconds or (seconds is None and 100.0 <= ending.seconds < 200.0)
    assert ending.metrics == {"a": 1.0, **({"fit_seconds": 3.0} if seconds else {})}
    folder = tmp_path
    assert calls.made == [
        ("log", "run", event),
        ("log_files", "run", folder / "artifacts"),
        ("log_files", "run", folder / "checkpoints" / "best.ckpt", "checkpoints"),
        ("end", "run", *status),
    ]


def test_a_trial_whose_metric_never_had_a_number_has_failed(tmp_path: Path) -> None:
    calls: Any = Calls()
    found = record(tmp_path / "a", STARTED, Finished({}), tracking=calls)
    ending = found.end(Finished({}))
    assert (ending.state, ending.error) == ("FAIL", "the metric val/accuracy was never a number")
    assert calls.made[-1] == ("end", "run", "FAILED", "failed")
    without = record(tmp_path / "b", STARTED, Finished({}), tracking=calls, metric=None)
    assert without.end(Finished({})).state == "COMPLETE"


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "INTERRUPTED", "FAIL"])
def test_a_trial_ends_as_others_know_it_and_by_its_own_word_if_that_agrees(tmp_path: Path, state: str) -> None:
    calls: Any = Calls()
    own = Stopped("pruned", {"own": 1.0})
    found = record(tmp_path, STARTED, Report(0, 0, 0.5), own, tracking=calls)
    ending = found.end_as(state)
    assert ending.state == state and ("own" in ending.metrics) == (state == "PRUNED")


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "INTERRUPTED", "FAIL"])
@pytest.mark.parametrize("last", [True, False])
def test_the_previous_checkpoint_goes_once_it_is_not_needed(tmp_path: Path, state: str, last: bool) -> None:
    calls: Any = Calls()
    (tmp_path / "checkpoints").mkdir()
    previous = tmp_path / "checkpoints" / "previous.ckpt"
    previous.touch()
    if last:
        (tmp_path / "checkpoints" / "last.ckpt").touch()
    record(tmp_path, STARTED, Report(0, 0, 0.5), tracking=calls).end_as(state)
    assert previous.exists() == (not last or state in ("INTERRUPTED", "FAIL"))


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("link", ["checkpoints", "artifacts/notes.txt", "."])
def test_nothing_elsewhere_is_sent_or_deleted_if_the_folder_is_not_trusted(
    tmp_path: Path, trusted: bool, link: str
) -> None:
    calls: Any = Calls()
    outside, folder = tmp_path / "outside", tmp_path / "trials" / "run"
    for top in (outside / "checkpoints", folder / "checkpoints", folder / "artifacts"):
        top.mkdir(parents=True)
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        (outside / "checkpoints" / name).touch()
    found = record(folder, STARTED, Report(0, 0, 0.5), tracking=calls, trusted=trusted)
    if link == ".":
        folder.rename(tmp_path / "moved")
        (tmp_path / "moved" / "checkpoints").rmdir()
        (tmp_path / "moved" / "checkpoints").symlink_to(outside / "checkpoints")
        folder.symlink_to(tmp_path / "moved")
    elif link == "checkpoints":
        (folder / "checkpoints").rmdir()
        (folder / "checkpoints").symlink_to(outside / "checkpoints")
    else:
        (folder / link).symlink_to(outside / "checkpoints" / "best.ckpt")
    found.end_as("COMPLETE")
    assert [call[0] for call in calls.made if call[0] != "log"][-1] == "end"
    assert any(call[0] == "log_files" for call in calls.made) == trusted
    if not trusted:
        assert (outside / "checkpoints" / "previous.ckpt").exists()


def test_the_log_of_an_older_version_is_sent_too(tmp_path: Path) -> None:
    calls: Any = Calls()
    (tmp_path / "log.txt").touch()
    record(tmp_path, STARTED, tracking=calls).end_as("FAIL")
    assert ("log_files", "run", tmp_path / "log.txt") in calls.made


def test_a_failure_that_the_trial_could_not_log_itself_is_in_its_log(tmp_path: Path) -> None:
    found = record(tmp_path, STARTED)
    found.fail("its process died")
    assert found.state == "FAIL"
    again = record(tmp_path)
    assert isinstance(again.ending, Failed) and again.ending.error == "its process died"


def test_long_errors_are_cut(tmp_path: Path) -> None:
    calls: Any = Calls()
    ending = record(tmp_path, STARTED, tracking=calls).end(Failed("x" * 10_000, ""))
    assert ending.error is not None and len(ending.error) <= ERROR_LENGTH


def test_lines_that_are_not_events_are_said_once(tmp_path: Path) -> None:
    found = record(tmp_path, STARTED)
    with open(tmp_path / NAME, "a") as file:
        file.write("not an event\n")
    found.read()
    (line,) = found.warnings()
    assert line.startswith("skipped a line that cannot be parsed: ") and found.warnings() == []


def test_further_objectives_are_those_of_the_best_report(tmp_path: Path) -> None:
    spec = TrialSpec("run", {}, 0, str(tmp_path), metric="m", direction="maximize", further={"size": "minimize"})
    log(tmp_path, [Report(step, 0, value, {"size": step}) for step, value in ((1, 0.5), (2, 0.75), (3, 0.25))])
    calls: Any = Calls()
    record = TrialRecord(spec, calls)
    record.read()
    ending = record.end(Finished({}))
    assert (ending.state, ending.value, ending.further) == ("COMPLETE", 0.75, {"size": 2})
    assert record.end(Stopped("pruned", {})).further == {"size": 2}
    record.ending = Finished({}, 0.9, {"size": 7.0})
    assert record.end(record.ending).further == {"size": 7.0}, "of averaged weights"


def test_a_further_objective_without_a_number_fails_the_trial(tmp_path: Path) -> None:
    spec = TrialSpec("run", {}, 0, str(tmp_path), metric="m", direction="maximize", further={"size": "minimize"})
    log(tmp_path, [Report(1, 0, 0.5, {"size": float("nan")}), Report(2, 1, 0.25, {"size": 3.0})])
    calls: Any = Calls()
    record = TrialRecord(spec, calls)
    record.read()
    ending = record.end(Finished({}))
    assert ending.state == "FAIL" and ending.error == "the metric size was not a number when m was best"
