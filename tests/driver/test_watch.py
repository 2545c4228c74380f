"""Watching a study: what is read from its databases, logs and lease."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import log

from studies.common.locks import Lease, this_process
from studies.common.state_folder import StateFolder
from studies.config.search_space import parse_space
from studies.console.progress import Display
from studies.driver.watch import GONE, Driver, Watch
from studies.protocol.events import Event, Metrics, Started
from studies.protocol.trial_spec import TrialSpec
from studies.search import Search

SPACE = {"model.learning_rate": {"low": 0.1, "high": 1.0}}
DEFINITION = {"space": SPACE, "metric": "val/loss", "direction": "minimize", "seed": 0}
NOW = time.time()


class State:
    """A state folder with a study `s` and a driver that holds its lease."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.folder = StateFolder.find()
        self.search = Search(self.folder.storage, "s", DEFINITION, parse_space(SPACE), "random", "none", None)
        self.lease = Lease(self.folder.lease("s"))
        self.lease.take()
        self.lease.note(total=5)

    def trial(self, run_id: str, events: Sequence[Event] = ()) -> int:
        row = self.search.ask()
        self.search.bind(row.number, run_id)
        folder = self.folder.trial_folder(run_id)
        TrialSpec(run_id, {}, 0, str(folder), metric="val/loss", direction="minimize").save()
        log(folder, events)
        return row.number

    def look(self, watch: Watch, display: Display | None = None) -> Display:
        display = watch.display(live=False, stream=io.StringIO()) if display is None else display
        watch.look(display)
        return display


@pytest.fixture
def state(empty_home: Path) -> State:
    return State(empty_home)


def started(at: float) -> Started:
    return Started(1, "host", "cpu", {}, epochs=4, steps=None, time=at)


def metrics(epoch: int, done: int, loss: float, at: float) -> Metrics:
    return Metrics(done - 1, epoch, {"val/loss": loss}, done, done, time=at)


def text(display: Display) -> str:
    stream: Any = display._stream
    return str(stream.getvalue())


def test_a_running_trial_shows_the_progress_of_its_present_process(state: State) -> None:
    earlier = [started(NOW - 1000), metrics(0, 10, 0.9, NOW - 990)]
    state.trial("a", [*earlier, started(NOW - 20), metrics(1, 20, 0.5, NOW - 10), metrics(1, 30, 0.4, NOW - 5)])
    watch = Watch(state.folder, "s")
    display = state.look(watch)
    row = display.row(0)
    assert row is not None and (row.place, row.step, row.metrics) == ("2/4", 30, {"val/loss": 0.4})
    assert row.speed == pytest.approx(2.0, rel=0.01)  # 10 steps in 5 s: those before its interruption do not count
    answer = watch.to_json(display)
    assert answer["status"] == "running" and answer["total"] == 5 and answer["driver"]["pid"] == os.getpid()
    (trial,) = answer["trials"]
    assert (trial["state"], trial["epoch"], trial["epochs"], trial["step"]) == ("RUNNING", 2, 4, 30)


def test_trials_that_end_while_it_is_watched_get_a_line_and_earlier_ones_do_not(state: State) -> None:
    first, second = state.trial("a"), state.trial("b")
    state.search.tell(first, "COMPLETE", 0.3)
    watch = Watch(state.folder, "s")
    display = state.look(watch)
    assert "trial 0" not in text(display) and "trial 1  started" in text(display) and display.best == 0
    third = state.trial("c")  # so short that it is never seen running
    state.search.tell(second, "COMPLETE", 0.2)
    state.search.tell(third, "FAIL", None)
    state.look(watch, display)
    assert "trial 1  COMPLETE  val/loss 0.2000  best 0.2000 (trial 1)  2/5" in text(display)
    assert "trial 2  started" in text(display) and "trial 2  FAIL" in text(display)
    assert watch.best is not None and watch.best.number == 1


@pytest.mark.parametrize("ended", ["finished", "failed", "interrupted", "timeout", None])
def test_how_it_ended_is_what_its_driver_left(state: State, ended: str | None) -> None:
    state.trial("a", [started(NOW - 5)])
    watch = Watch(state.folder, "s")
    display = state.look(watch)
    if ended is not None:
        state.lease.note(ended=ended)
    else:  # killed: the process of that name is gone
        host, pid, _ = this_process().split()
        state.lease.note(process=f"{host} {pid} 1")
    state.look(watch, display)
    assert watch.status == (ended or GONE)
    assert "trial 0  INTERRUPTED" in text(display)


def test_a_study_without_a_driver_is_judged_by_its_trials(state: State) -> None:
    number = state.trial("a")
    state.lease.path.unlink()
    watch = Watch(state.folder, "s")
    state.look(watch)
    assert watch.status == "interrupted"
    state.search.tell(number, "COMPLETE", 0.5)
    state.look(watch)
    assert watch.status == "finished"


def test_trials_that_are_extended_run_again(state: State) -> None:
    for run_id in ("a", "b"):
        state.search.tell(state.trial(run_id), "COMPLETE", 0.5)
    state.search.extend(1, {"epochs": 8, "done": False})
    state.lease.note(total=1, extends=[1])
    watch = Watch(state.folder, "s")
    display = state.look(watch)
    assert display.total == 1 and display.row(0) is None
    row = display.row(1)
    assert row is not None and row.state == "running"
    assert [trial["state"] for trial in watch.to_json(display)["trials"]] == ["COMPLETE", "RUNNING"]
    state.search.extend(1, {"epochs": 8, "done": True, "state": "COMPLETE", "value": 0.1})
    state.look(watch, display)
    assert watch.best is not None and watch.best.value == 0.1


def test_looking_writes_nothing_and_leaves_the_lease(state: State) -> None:
    state.trial("a", [started(NOW - 5), metrics(0, 10, 0.9, NOW)])
    state.lease.release()

    def content() -> dict[str, tuple[bytes, int]]:
        files = [path for path in state.folder.folder.rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = content()
    watch = Watch(state.folder, "s")
    state.look(watch)
    assert content() == before
    other = Lease(state.lease.path)
    other.take()
    other.release()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"pid": "x", "host": 3, "total": "many", "ended": "exploded"}', "[" * 100_000]
)
def test_a_lease_file_that_makes_no_sense_counts_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.lease"
    path.write_text(content)
    assert Driver.read(path) == Driver()


def test_a_lease_that_is_a_pipe_or_absent_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Driver.read(tmp_path / "pipe") == Driver() == Driver.read(tmp_path / "none")


def test_a_specification_that_cannot_be_read_hides_only_the_progress(state: State) -> None:
    state.trial("a", [started(NOW - 5), metrics(0, 10, 0.9, NOW)])
    (state.folder.trial_folder("a") / "spec.json").write_text("{")
    watch = Watch(state.folder, "s")
    display = state.look(watch)
    row = display.row(0)
    assert row is not None and row.state == "running" and row.updated is None


def test_an_unknown_study_is_one_line(state: State) -> None:
    with pytest.raises(ValueError, match="unknown study ss; did you mean s"):
        Watch(state.folder, "ss")
