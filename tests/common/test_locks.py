import json
import multiprocessing
import os
from pathlib import Path

import pytest

from studies.common.locks import Lease, file_lock, may_live, this_process


def add_one(path: Path) -> None:
    with file_lock(path.with_suffix(".lock")):
        path.write_text(str(int(path.read_text()) + 1))


def test_a_file_lock_is_exclusive(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    processes = [multiprocessing.get_context("fork").Process(target=add_one, args=(path,)) for _ in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert path.read_text() == "20"


def test_a_second_driver_is_told_who_holds_the_lease(tmp_path: Path) -> None:
    first, second = Lease(tmp_path / "s" / "mine.lease"), Lease(tmp_path / "s" / "mine.lease")
    first.take()
    with pytest.raises(ValueError, match=f"study mine is being run by process {os.getpid()} on"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_a_dead_drivers_lease_is_free(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "mine.lease")
    child = os.fork()
    if child == 0:
        lease.take()
        os._exit(0)
    os.waitpid(child, 0)
    assert "pid" in lease.path.read_text()
    lease.take()
    lease.release()


def test_checking_a_lease_does_not_take_it(tmp_path: Path) -> None:
    lease, other = Lease(tmp_path / "mine.lease"), Lease(tmp_path / "mine.lease")
    assert not other.is_held
    lease.take()
    assert other.is_held and other.is_held
    lease.release()
    assert not other.is_held


def test_a_process_is_identified_by_more_than_its_pid() -> None:
    host, pid, started = this_process().split()
    assert may_live(this_process())
    assert not may_live(f"{host} {pid} {int(started) - 1}"), "another one had our number before"
    assert not may_live(f"{host} 4194999 5")
    assert may_live(f"elsewhere {pid} 1"), "who can say"


def test_the_holder_is_named_even_if_a_previous_record_was_longer(tmp_path: Path) -> None:
    path = tmp_path / "mine.lease"
    path.write_text(json.dumps({"pid": 1, "host": "h" * 300, "since": 0.0}))
    first = Lease(path)
    first.take()
    with pytest.raises(ValueError, match=f"study mine is being run by process {os.getpid()} on"):
        Lease(path).take()
    first.release()
