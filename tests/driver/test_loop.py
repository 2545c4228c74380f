"""The loop between executor, tracking and source, with stand-ins for all three and for the clock."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, FakeExecutor, Screen, log

from studies.driver.loop import FLUSH_SECONDS, LOOK_SECONDS, TrialLoop
from studies.protocol.events import Event, Finished, Metrics, Report, Started
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class Trials:
    """A source of some trials, and of some that a former driver has closed."""

    def __init__(self, specs: list[TrialSpec], unrecorded: list[tuple[TrialSpec, str]]) -> None:
        self.specs, self._unrecorded = specs, unrecorded
        self.endings: dict[str, Ending] = {}

    def next(self) -> TrialSpec | None:
        return self.specs.pop(0) if self.specs else None

    def report(self, spec: TrialSpec, count: int, value: float) -> bool:
        return False

    def ended(self, spec: TrialSpec, ending: Ending) -> None:
        self.endings[spec.run_id] = ending

    def write(self) -> None: ...

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
    TrialLoop(executor, tracking, Screen()).run(Trials([spec(tmp_path, "a")], []))
    made = [call[0] for call in tracking.made]
    flushes = made[: made.index("end")].count("flush")
    assert now / (FLUSH_SECONDS + 2 * LOOK_SECONDS) <= flushes <= now / FLUSH_SECONDS
