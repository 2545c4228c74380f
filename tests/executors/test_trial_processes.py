"""Trial processes are like ordinary ones: they may start others, which end with trial and driver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path

import children
import psutil
import pytest
from test_executors import events, spec, until_exit

from studies.executors import orphans
from studies.executors.inline import InlineExecutor
from studies.executors.local import LocalExecutor
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventWriter
from studies.protocol.events import Failed, Finished
from studies.protocol.trial_spec import TrialSpec

TOY = Path(__file__).parents[1] / "toy"

# A driver whose server imports nothing, so that it starts at once. It dies, or raises without closing anything.
DRIVER = """
import json, os, sys, time
from studies.executors import local
from studies.executors import worker as processes
if __name__ == "__main__":
    file, then = sys.argv[1:]
    local.PRELOAD = []
    executor = local.LocalExecutor()
    executor.warm()
    ours, theirs = executor._context.Pipe()
    work = "children:start_children_and_stay", json.dumps(file), theirs, file + ".log"
    process = executor._start(processes.answer_call, *work)
    while not os.path.exists(file):
        time.sleep(0.02)
    if then == "raise":
        raise ValueError("it broke")
    time.sleep(300)
"""


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.syspath_prepend(str(TOY))
    executor = LocalExecutor(workers=1)
    executor.warm()
    yield executor
    executor.close()


def started(file: Path) -> list[int]:
    """The pids written by `children.start_children`, its own first, once available."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(number) for number in file.read_text().split()]


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if orphans.is_running(pid)]:
        assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in left]
        time.sleep(0.02)


@pytest.mark.parametrize(("workers", "persistent"), [(1, False), (2, True), (4, False)])
def test_dataloaders_may_have_workers(executor: LocalExecutor, tmp_path: Path, workers: int, persistent: bool) -> None:
    of_trial = spec(tmp_path, epochs=2)
    options = {"num_workers": workers, "persistent": persistent}
    of_trial.experiment["data"] = {"class_path": "toy.WorkersData", "init_args": options}
    executor.submit(of_trial)
    until_exit(executor)
    assert isinstance(events(tmp_path)[-1], Finished), (tmp_path / "r" / "artifacts" / "log.txt").read_text()


@pytest.mark.parametrize("trouble", ["none", "kill", "exit", "raise"])
def test_what_a_trial_started_ends_with_it(executor: LocalExecutor, tmp_path: Path, trouble: str) -> None:
    of_trial = spec(tmp_path, epochs=2, model={"trouble": trouble})
    of_trial.experiment["model"]["class_path"] = "toy.Starting"
    executor.submit(of_trial)
    until_exit(executor)
    if trouble == "none":
        assert isinstance(events(tmp_path)[-1], Finished)
    assert_gone(started(tmp_path / "r" / "children"))


def test_what_a_trial_started_ends_with_it_where_it_is_killed(executor: LocalExecutor, tmp_path: Path) -> None:
    of_trial = spec(tmp_path, epochs=10_000, model={"seconds": 0.05})
    of_trial.experiment["model"]["class_path"] = "toy.Starting"
    executor.submit(of_trial)
    pids = started(tmp_path / "r" / "children")
    executor.kill("r")
    until_exit(executor)
    assert_gone(pids)


@pytest.mark.parametrize("then", ["return", "die"])
def test_what_a_call_started_ends_with_it(executor: LocalExecutor, tmp_path: Path, then: str) -> None:
    payload = {"file": str(tmp_path / "children"), "then": then}
    if then == "return":
        assert executor.call("children:start_children_and", payload) == "done"
    else:
        with pytest.raises(RuntimeError, match="died"):
            executor.call("children:start_children_and", payload)
    assert_gone(started(tmp_path / "children"))


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a driver with this ending, and ends it with the test."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOY.parents[1]), str(TOY)])}
    drivers = []

    def start(then: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(tmp_path / "children"), then]
        drivers.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
        driver.communicate()


@pytest.mark.parametrize("victims", ["driver", "driver and trial", "driver and server and trial"])
def test_everything_ends_with_the_driver(
    tmp_path: Path, drive: Callable[[str], subprocess.Popen[bytes]], victims: str
) -> None:
    driver = drive("stay")
    pids = started(tmp_path / "children")
    server = psutil.Process(pids[0]).ppid()
    driver.kill()
    if "server" in victims:
        os.kill(server, signal.SIGKILL)
    if "trial" in victims:
        os.kill(pids[0], signal.SIGKILL)
    assert_gone([*pids, server])


def test_a_driver_that_breaks_ends_at_once_with_all_it_started(
    tmp_path: Path, drive: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    driver = drive("raise")
    pids = started(tmp_path / "children")
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1 and b"it broke" in said
    assert not any(orphans.is_running(pid) for pid in pids)


def test_leftovers_of_a_driver_and_watchdog_that_were_killed_end_with_the_next_start() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    _, start, namespace = orphans.this_driver().split(":", 2)
    dead, living = f"{ended.pid}:{start}:{namespace}", orphans.this_driver()
    elsewhere = f"{ended.pid}:{start}:pid:[1]"  # a container's, with its own pid namespace
    left, ours, theirs = (
        subprocess.Popen(["sleep", "300"], env={orphans.DRIVER: driver}) for driver in (dead, living, elsewhere)
    )
    try:
        orphans.end_leftovers()
        assert left.wait(10) == -signal.SIGKILL
        assert ours.poll() is theirs.poll() is None
    finally:
        ours.kill(), theirs.kill()
        ours.wait(), theirs.wait()


def test_an_orphaned_trial_ends_its_group(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    trial = os.fork()
    if trial == 0:
        os.setsid()
        ours.close()
        Channel(EventWriter(tmp_path / NAME), theirs)
        children.start_children_and_stay(str(tmp_path / "children"), apart=False)
    theirs.close()
    pids = started(tmp_path / "children")
    ours.close()  # what the kernel does when the driver dies
    os.waitpid(trial, 0)
    assert_gone(pids)


def test_a_trial_process_is_like_an_ordinary_process(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert executor.call("children:circumstances", None) == {  # type: ignore[arg-type]
        "interrupts": True,
        "blocked": [],
        "start method": "fork",
        "daemon": False,
        "name": "MainProcess",
        "leads its group": True,
        "safe path": None,
        "folder": str(tmp_path),
        "input": "",
        "not quite text": "b\\udce4r\\x00",
    }


def habit(folder: Path, name: str, which: str) -> TrialSpec:
    of_trial = spec(folder, name, epochs=1, model={"habit": which})
    of_trial.experiment["model"]["class_path"] = "toy.Unusual"
    return of_trial


@pytest.mark.parametrize(
    ("which", "error"),
    [
        ("closes", "RuntimeError: a quiet death"),
        ("drops", "RuntimeError: a quiet death"),
        ("exits", "the trial called sys.exit(0)"),
        ("interrupts", "KeyboardInterrupt, raised within the trial"),
        ("speechless", "SpeechlessError: (no message: __str__ raised ValueError)"),
        ("not quite text", r"RuntimeError: cannot read b\udce4r.png"),
    ],
)
def test_any_failure_has_a_message(executor: LocalExecutor, tmp_path: Path, which: str, error: str) -> None:
    executor.submit(habit(tmp_path, "r", which))
    until_exit(executor)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Failed) and ending.error == error
    assert "Traceback" in (tmp_path / "r" / "artifacts" / "log.txt").read_text()


def test_a_huge_message_is_only_complete_in_the_log(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.submit(habit(tmp_path, "r", "long"))
    until_exit(executor)
    ending = events(tmp_path)[-1]
    assert isinstance(ending, Failed) and ending.error.startswith("RuntimeError: tensor of 99")
    assert "characters omitted" in ending.error and len(ending.to_json()) < 30_000
    assert "9" * 1_000_000 in (tmp_path / "r" / "artifacts" / "log.txt").read_text()


def test_each_trial_starts_in_the_users_folder(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        executor.submit(habit(tmp_path, name, "moves"))
        until_exit(executor)
        assert isinstance(events(tmp_path, name)[-1], Finished)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("elsewhere")] == ["elsewhere"]


def test_inline_restores_the_drivers_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.chdir(tmp_path)
    before = os.getcwd(), sys.stdout, sys.stderr
    for which, kind in (("moves", Finished), ("drops", Failed)):
        inline = InlineExecutor()
        inline.submit(habit(tmp_path, which, which))
        inline.wait(0.1)
        assert isinstance(events(tmp_path, which)[-1], kind)
        assert (os.getcwd(), sys.stdout, sys.stderr) == before
