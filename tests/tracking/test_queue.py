"""The tracking thread: which calls are queued, in which order, and which go first."""

import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from studies.common.errors import StorageFailed
from studies.tracking.queue import TrackingQueue


class Slow:
    """A tracker whose first call blocks until released."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.may_go_on = threading.Event()

    def wait(self) -> None:
        assert self.may_go_on.wait(10)

    def note(self, what: Any) -> Any:
        self.made.append(what)
        return what

    def fail(self) -> None:
        raise OSError("the disk is gone")


@pytest.fixture
def queue() -> Iterator[TrackingQueue]:
    queue = TrackingQueue()
    queue._tracking = Slow()
    yield queue
    queue._tracking.may_go_on.set()
    queue._pool.shutdown()


def test_calls_are_made_in_order(queue: TrackingQueue) -> None:
    queue._tracking.may_go_on.set()
    for number in range(5):
        queue.soon.note(number)
    assert queue.now.note("last") == "last"
    assert queue._tracking.made == [0, 1, 2, 3, 4, "last"]


def test_urgent_calls_precede_queued_ones(queue: TrackingQueue) -> None:
    queue.soon.wait()
    for number in range(3):
        queue.soon.note(number)
    queue.meanwhile = queue._tracking.may_go_on.set  # called while `get_first` waits
    assert queue.first.note("first") == "first"
    queue.close()
    assert queue._tracking.made == ["first", 0, 1, 2]


def test_a_calls_exception_is_raised(queue: TrackingQueue) -> None:
    with pytest.raises(StorageFailed, match="the disk is gone"):
        queue.first.fail()
    with pytest.raises(StorageFailed, match="the disk is gone"):
        queue.first.note("after it")
    assert queue._tracking.made == [], "what comes after it would tell half a story"


class Locked:
    """Work on a database that is locked the first few times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self) -> str:
        self.times -= 1
        if self.times >= 0:
            raise sqlite3.OperationalError("database is locked")
        return "done"


def test_when_hurrying_a_locked_database_is_waited_for_some_seconds() -> None:
    queue = TrackingQueue(make=Slow)
    queue.hurry()
    assert queue._retry(Locked(times=1)) == "done"
    assert queue.trouble is None


def test_after_these_seconds_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.tracking.queue.HURRY", -1.0)
    queue = TrackingQueue(make=Slow)
    queue.hurry()
    with pytest.raises(StorageFailed, match="database is locked"):
        queue._retry(Locked(times=2))
