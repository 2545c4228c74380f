"""The loop between executor, tracking and source, with stand-ins for all three and for the clock."""

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, FakeExecutor, Screen, log

from studies.common.errors import DISK_FULL, StorageFailed
from studies.driver.loop import CRASHES, FLUSH_SECONDS, LOOK_SECONDS, Live, TrialLoop
from studies.driver.trial_source import TrialSource
from studies.executors.base import Message
from studies.protocol.events import (
    CheckpointSaved,
    Event,
    Finished,
    Metrics,
    Notice,
    Report,
    Resources,
    Started,
    Stopped,
)
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class Trials(TrialSource):
    """A source of some trials, and of some that a former driver has closed."""

    def __init__(self, specs: list[TrialSpec], unrecorded: list[tuple[TrialSpec, str]]) -> None:
        self.specs, self._unrecorded = specs, unrecorded
        self.endings: dict[str, Ending] = {}
        self.reports: list[tuple[str, int, float]] = []
        self.prune_at: tuple[int, ...] = ()  # which of a trial's reports is its last
        self.writes = 0

    def next(self) -> TrialSpec | None:
        return self.specs.pop(0) if self.specs else None

    def report(self, spec: TrialSpec, count: int, value: float, further: dict[str, float]) -> bool:
        self.reports.append((spec.run_id, count, value))
        return count in self.prune_at

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending:
        self.endings[spec.run_id] = ending
        return ending

    def write(self) -> None:
        self.writes += 1

    def unrecorded(self) -> list[tuple[TrialSpec, str]]:
        return self._unrecorded


def spec(folder: Path, run_id: str) -> TrialSpec:
    return TrialSpec(run_id, {}, 0, str(folder / run_id), metric="val/loss", direction="minimize")


def life(epochs: int = 1) -> list[Event]:
    """What a trial says that learns for some epochs."""
    events: list[Event] = [Started(1, "here", "cpu", {}, epochs)]
    for epoch in range(epochs):
        value = 1.0 / (epoch + 1)
        events += [Metrics(epoch, epoch, {"val/loss": value}, epoch, epoch), Report(epoch, epoch, value)]
    return [*events, Finished({"fit_seconds": 1.0})]


def logged(tracking: Calls, run_id: str) -> list[dict[str, float]]:
    """The metrics that MLflow was told of a run."""
    calls = [call[2] for call in tracking.made if call[:2] == ("log", run_id)]
    return [event.values for event in calls if isinstance(event, Metrics)]


def test_a_trial_is_told_to_mlflow_and_to_its_source(tmp_path: Path) -> None:
    tracking: Any = Calls()
    source = Trials([spec(tmp_path, "a"), spec(tmp_path, "b")], [])
    executor: Any = FakeExecutor(lambda spec: life(epochs=2))
    TrialLoop(executor, tracking, Screen()).run(source)
    for run_id in "ab":
        assert (source.endings[run_id].state, source.endings[run_id].value) == ("COMPLETE", 0.5)
        assert logged(tracking, run_id) == [{"val/loss": 1.0}, {"val/loss": 0.5}]
        assert ("end", run_id, "FINISHED", None) in tracking.made


def test_what_a_former_driver_did_not_get_to_log_of_an_ended_trial_is_logged(tmp_path: Path) -> None:
    of_trial = spec(tmp_path, "old")
    log(of_trial.folder, life(epochs=2))
    tracking: Any = Calls()
    executor: Any = FakeExecutor(lambda spec: [])
    TrialLoop(executor, tracking, Screen()).run(Trials([], [(of_trial, "COMPLETE")]))
    assert executor.submitted == []
    assert logged(tracking, "old") == [{"val/loss": 1.0}, {"val/loss": 0.5}]
    (summary,) = [call[2].summary for call in tracking.made if call[0] == "log" and isinstance(call[2], Finished)]
    assert summary == {"fit_seconds": 1.0}, "its own last word"
    assert tracking.made[-1] == ("end", "old", "FINISHED", None)


def test_what_trials_say_is_flushed_while_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def later() -> None:
        nonlocal now
        now += LOOK_SECONDS + 0.1

    monkeypatch.setattr("studies.driver.loop.time", SimpleNamespace(monotonic=lambda: now))
    tracking: Any = Calls()
    executor: Any = FakeExecutor(lambda spec: life(epochs=20), waited=later)
    source = Trials([spec(tmp_path, "a")], [])
    TrialLoop(executor, tracking, Screen()).run(source)
    made = [call[0] for call in tracking.made]
    flushes = made[: made.index("end")].count("flush")
    assert now / (FLUSH_SECONDS + 2 * LOOK_SECONDS) <= flushes <= now / FLUSH_SECONDS
    assert source.writes >= int(now / (2 * LOOK_SECONDS)), "what the search has buffered is written, too"


class Clock:
    """A clock that moves when it is told to, in place of time.monotonic()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("studies.driver.loop.time", clock)
        monkeypatch.setattr(Live, "__init__", _with_clock(self, Live.__init__))

    def move(self, seconds: float) -> None:
        self.now += seconds


def _with_clock(clock: Clock, init: Any) -> Any:
    def created(live: Live, spec: TrialSpec, record: Any) -> None:
        init(live, spec, record, heard=clock.now)

    return created


def saved(step: int) -> list[Event]:
    """What a process emits that saves a checkpoint and then dies."""
    return [Started(1, "here", "cpu", {}, 3), CheckpointSaved("last.ckpt", step, 0)]


def with_checkpoint(of_trial: TrialSpec) -> str:
    path = Path(of_trial.folder, "checkpoints", "last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    return str(path)


def test_only_free_places_are_filled(tmp_path: Path) -> None:
    executor: Any = FakeExecutor(lambda spec: life(), workers=2)
    source = Trials([spec(tmp_path, name) for name in "abcde"], [])
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, len(executor.running))

    executor._waited = count
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert most == 2 and sorted(source.endings) == list("abcde")
    assert executor.closed and source.writes >= 1


def test_a_trial_is_pruned_by_the_answer_to_its_own_report(tmp_path: Path) -> None:
    executor: Any = FakeExecutor(lambda spec: life(epochs=3))
    source = Trials([spec(tmp_path, "a")], [])
    source.prune_at = (2,)
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert source.reports == [("a", 1, 1.0), ("a", 2, 0.5), ("a", 3, 1 / 3)]
    assert executor.answers == [None, "pruned", None]


def test_a_process_that_dies_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    of_trial, screen = spec(tmp_path, "a"), Screen()
    checkpoint = with_checkpoint(of_trial)
    lives = iter([saved(step=5), life()])
    executor: Any = FakeExecutor(lambda spec: next(lives), statuses=[-9])
    source = Trials([of_trial], [])
    TrialLoop(executor, Calls(), screen).run(source)  # type: ignore[arg-type]
    assert [submitted.resume for submitted in executor.submitted] == [checkpoint, checkpoint]
    assert source.endings["a"].state == "COMPLETE"
    assert screen.said == ["trial 0: its process was killed by SIGKILL; resuming"]


def test_a_process_that_dies_again_and_again_without_progress_has_failed(tmp_path: Path) -> None:
    executor: Any = FakeExecutor(lambda spec: saved(step=5), statuses=[3] * 100)
    source, screen = Trials([spec(tmp_path, "a")], []), Screen()
    TrialLoop(executor, Calls(), screen).run(source)  # type: ignore[arg-type]
    assert len(executor.submitted) == CRASHES
    why = f"the trial's process exited with status 3 without reporting a result, {CRASHES} times without progress"
    assert source.endings["a"].state == "FAIL" and (source.endings["a"].error or "").startswith(why)
    assert screen.said[-1].startswith(f"trial 0: {why}")


def test_crashes_are_counted_anew_after_each_step_forward(tmp_path: Path) -> None:
    lives = iter([saved(step=step // 3) for step in range(4 * CRASHES)] + [life()])
    executor: Any = FakeExecutor(lambda spec: next(lives), statuses=[1] * 4 * CRASHES)
    source = Trials([spec(tmp_path, "a")], [])
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert source.endings["a"].state == "COMPLETE" and len(executor.submitted) == 4 * CRASHES + 1


@pytest.mark.parametrize(
    ("kills", "status", "is_memory"), [((3, 4), -9, True), ((3, 3), -9, False), ((3, 4), -15, False)]
)
def test_a_kill_by_the_kernel_for_want_of_memory_fails_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: tuple[int, int], status: int, is_memory: bool
) -> None:
    count = kills[0]
    monkeypatch.setattr("studies.driver.loop.memory.kills", lambda: count)

    def killed() -> None:
        nonlocal count
        count = kills[1]

    lives = iter([saved(step=5), life()])
    executor: Any = FakeExecutor(lambda spec: next(lives), waited=killed, statuses=[status])
    source = Trials([spec(tmp_path, "a")], [])
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    error = source.endings["a"].error or ""
    assert error.startswith("out of memory: ") == is_memory
    assert source.endings["a"].state == ("FAIL" if is_memory else "COMPLETE")


def test_a_kill_for_want_of_memory_long_ago_was_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, count = Clock(monkeypatch), 3
    monkeypatch.setattr("studies.driver.loop.memory.kills", lambda: count)

    def later() -> None:
        nonlocal count
        count = 4
        clock.move(LOOK_SECONDS + 0.1)

    lives = iter([saved(step=5), life()])
    executor: Any = FakeExecutor(lambda spec: next(lives), waited=later, statuses=[-9])
    source = Trials([spec(tmp_path, "a")], [])
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert source.endings["a"].state == "COMPLETE"


def test_a_full_disk_ends_all_trials_and_the_command(tmp_path: Path) -> None:
    executor: Any = FakeExecutor(
        lambda spec: saved(1) if spec.run_id == "a" else life(50), workers=2, statuses=[DISK_FULL]
    )
    source = Trials([spec(tmp_path, name) for name in "abc"], [])
    with pytest.raises(StorageFailed, match=f"no space left on the disk of {tmp_path / 'a'}: free some"):
        TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert executor.asked == [("b", "interrupted")] and len(executor.submitted) == 2
    assert {ending.state for ending in source.endings.values()} == {"INTERRUPTED"}
    assert executor.closed


def test_a_silent_trial_is_killed_and_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sample = Resources(0, {})  # a thread of the trial that lives on
    executor: Any = FakeExecutor(
        lambda spec: [Started(1, "here", "cpu", {}), *[sample] * 100], lambda: clock.move(10.0)
    )
    source, screen = Trials([spec(tmp_path, "a")], []), Screen()
    TrialLoop(executor, Calls(), screen, silence=60.0).run(source)  # type: ignore[arg-type]
    assert executor.asked == [("a", None)] and clock.now < 1100
    assert (source.endings["a"].error or "").startswith("the trial sent no event for 60 s (--trial-timeout)")


def test_a_trial_that_emits_events_or_waits_for_a_process_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    executor: Any = FakeExecutor(lambda spec: life(epochs=20), lambda: clock.move(59.0))
    source = Trials([spec(tmp_path, "a")], [])
    TrialLoop(executor, Calls(), Screen(), silence=60.0).run(source)  # type: ignore[arg-type]
    assert source.endings["a"].state == "COMPLETE"

    waits = iter([*[False] * 10, *[True] * 1000])
    waiting: Any = FakeExecutor(lambda spec: [Resources(0, {})] * 10 + life(), lambda: clock.move(50.0))
    waiting.has_begun = lambda run_id: next(waits)
    source = Trials([spec(tmp_path, "b")], [])
    TrialLoop(waiting, Calls(), Screen(), silence=60.0).run(source)  # type: ignore[arg-type]
    assert source.endings["b"].state == "COMPLETE" and waiting.asked == []


def test_after_the_deadline_trials_are_interrupted_once_and_none_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    executor: Any = FakeExecutor(lambda spec: life(epochs=50), lambda: clock.move(1.0), workers=2)
    source = Trials([spec(tmp_path, name) for name in "abcd"], [])
    loop = TrialLoop(executor, Calls(), Screen(), deadline=1005.0)  # type: ignore[arg-type]
    loop.run(source)
    assert executor.asked == [("a", "interrupted"), ("b", "interrupted")] and clock.now < 1010
    assert loop.timed_out and loop.signal is None and source.specs
    assert {ending.state for ending in source.endings.values()} == {"INTERRUPTED"}


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_stops_trials_and_a_second_one_kills_them(tmp_path: Path, signals: int) -> None:
    class Stubborn(FakeExecutor):
        def stop(self, run_id: str, why: str) -> None:
            self.asked.append((run_id, why))  # it takes its time

    sent = iter([signal.SIGINT, None, signal.SIGTERM][: 2 * signals - 1])

    def interrupt() -> None:
        number = next(sent, None)
        if number is not None and len(executor.submitted) == 1:
            signal.raise_signal(number)

    before = signal.getsignal(signal.SIGINT)
    executor: Any = Stubborn(lambda spec: life(epochs=5), interrupt)
    source, screen, tracking = Trials([spec(tmp_path, "a"), spec(tmp_path, "b")], []), Screen(), Calls()
    loop = TrialLoop(executor, tracking, screen)  # type: ignore[arg-type]
    loop.run(source)
    assert loop.signal == signal.SIGINT and tracking.hurried == 1
    assert executor.asked[0] == ("a", "interrupted") and executor.asked.count(("a", "interrupted")) == 1
    assert (("a", None) in executor.asked) == (signals == 2)
    assert source.endings["a"].state == ("COMPLETE" if signals == 1 else "INTERRUPTED") and "b" not in source.endings
    assert [line for line in screen.said if line.startswith("stopping: ")] == screen.said
    assert all(answer == "interrupted" for answer in executor.answers)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("ended", "extends", "runs"),
    [
        (Stopped("interrupted", {}), False, True),
        (Stopped("pruned", {}), False, False),
        (Finished({}), False, False),
        (Finished({}), True, True),
    ],
)
def test_which_ended_trials_are_run(tmp_path: Path, ended: Event, extends: bool, runs: bool) -> None:
    of_trial = replace(spec(tmp_path, "a"), extends=extends)
    log(of_trial.folder, [Started(1, "here", "cpu", {}, 1), Report(1, 0, 0.25), ended])
    executor: Any = FakeExecutor(lambda spec: [Started(1, "here", "cpu", {}, 2), Finished({})])
    source = Trials([of_trial], [])
    TrialLoop(executor, Calls(), Screen()).run(source)  # type: ignore[arg-type]
    assert bool(executor.submitted) == runs
    assert source.endings["a"].value == 0.25


def test_trouble_with_mlflow_is_said_once_and_so_is_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tracking, screen = Clock(monkeypatch), Calls(), Screen()
    troubles = iter([None, *["database is locked"] * 3, *[None] * 100])

    def later() -> None:
        clock.move(LOOK_SECONDS + 0.1)
        tracking.trouble = next(troubles)

    executor: Any = FakeExecutor(lambda spec: life(epochs=10), later)
    TrialLoop(executor, tracking, screen).run(Trials([spec(tmp_path, "a")], []))  # type: ignore[arg-type]
    assert screen.said == [
        "waiting for MLflow (database is locked): training continues and its results are kept",
        "MLflow is responding again",
    ]
    assert tracking.checks > 10


def test_notices_and_broken_lines_of_a_trial_are_shown(tmp_path: Path) -> None:
    of_trial, screen = spec(tmp_path, "a"), Screen()
    Path(of_trial.folder).mkdir()
    Path(of_trial.folder, "events.jsonl").write_text("no JSON\n")
    executor: Any = FakeExecutor(lambda spec: [Notice("a checkpoint was skipped"), *life()])
    TrialLoop(executor, Calls(), screen).run(Trials([of_trial], []))  # type: ignore[arg-type]
    assert "trial 0: a checkpoint was skipped" in screen.said
    assert any(line.startswith("skipped a line that cannot be parsed") for line in screen.said)
    (shown,) = [call for call in screen.calls if call[0] == "trial_progress"]
    assert shown == ("trial_progress", -1, 0, 1, 0, None, {"val/loss": 1.0}) or shown[2:] == (
        0,
        1,
        0,
        None,
        {"val/loss": 1.0},
    )


def test_messages_of_trials_that_ended_are_ignored(tmp_path: Path) -> None:
    executor: Any = FakeExecutor(lambda spec: life())
    source = Trials([spec(tmp_path, "a")], [])
    loop = TrialLoop(executor, Calls(), Screen())  # type: ignore[arg-type]
    loop.run(source)
    loop._on_message(Message("a", "verdict?"))
    assert executor.answers == [None]


def test_the_progress_of_an_earlier_start_is_not_shown_as_this_ones(tmp_path: Path) -> None:
    of_trial, screen = replace(spec(tmp_path, "a"), extends=True), Screen()
    log(of_trial.folder, life(epochs=2))
    executor: Any = FakeExecutor(lambda spec: [Started(1, "here", "cpu", {}, 3), Finished({})])
    TrialLoop(executor, Calls(), screen).run(Trials([of_trial], []))  # type: ignore[arg-type]
    assert [call[0] for call in screen.calls if call[0].startswith("trial_")] == ["trial_started", "trial_ended"]
