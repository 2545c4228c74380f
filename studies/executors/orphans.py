"""Ends the processes that a trial process started and left behind. Standard library only.

A trial process leads a process group, which is ended with it: DataLoader workers, subprocesses and their children. Two
kinds escape: processes with their own session, and all of them if driver and trial are killed at once. They are
identified by their environment, which every process inherits from the warm server, and ended by a watchdog: this file,
run as a script, which is told when a trial process has ended, and sees the end of its input when the driver has ended.
Leftovers of a driver that was killed together with its watchdog are ended when the next driver starts.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DRIVER = "HARNESS_DRIVER"  # environment of all descendants of a driver's warm server; see `this_driver`
TRIAL = "HARNESS_TRIAL_PROCESS"  # environment of programs started by a trial process: its pid
SPARED = ("(torch_shm_manag)",)  # PyTorch's; it exits once its clients are gone, after removing their files
ROUNDS, PAUSE = 100, 0.03  # scans for processes (some may be starting others), and seconds between scans


def this_driver() -> str:
    """A unique name of this process: pid, start time and pid namespace."""
    return f"{os.getpid()}:{_stat(os.getpid())[20]}:{_namespace()}"


def is_running(pid: int) -> bool:
    """Whether a process of this pid is running; a zombie is not."""
    fields = _stat(pid)
    return bool(fields) and fields[1] not in ("Z", "X")


def end_group(leader: int) -> None:
    """Kills a process and, if it leads one, its group."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(leader, signal.SIGKILL)


def end_rest_of_group(leader: int) -> None:
    """Kills the remaining processes of a group whose leader is gone."""
    if not is_running(leader):  # else the pid was reused, so the group no longer exists
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def end_leftovers() -> None:
    """Kills leftover processes of drivers that are gone."""
    _end_all(lambda environment: not _may_live(environment[DRIVER]))


def watch() -> None:
    """Starts this process's watchdog, once."""
    if os.getpid() in _WATCHDOGS:
        return
    theirs, ours = os.pipe()
    command = [sys.executable, "-I", "-S", __file__, this_driver()]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True
    )
    os.close(theirs)
    _WATCHDOGS[os.getpid()] = process, ours


def a_trial_process_ended() -> None:
    """Makes the watchdog look for processes that left the trial's group."""
    if os.getpid() in _WATCHDOGS:
        _, pipe = _WATCHDOGS[os.getpid()]
        with contextlib.suppress(OSError):  # it was killed: the next driver ends leftovers
            os.write(pipe, b"\n")


_WATCHDOGS: dict[int, tuple[subprocess.Popen[bytes], int]] = {}  # by the pid they watch: a fork has none


@atexit.register
def _end_watchdog() -> None:
    """Waits for the watchdog, so that nothing is left when the driver has ended."""
    if os.getpid() in _WATCHDOGS:
        process, pipe = _WATCHDOGS.pop(os.getpid())
        os.close(pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ROUNDS * PAUSE)


def _stay_awake(driver: str) -> None:
    """The watchdog's main loop."""

    def of_an_ended_trial(environment: dict[str, str]) -> bool:
        trial = environment.get(TRIAL, "")
        return environment[DRIVER] == driver and trial.isdigit() and not is_running(int(trial))

    while os.read(0, 4096):
        _end_all(of_an_ended_trial)
    _end_all(lambda environment: environment[DRIVER] == driver)


def _end_all(belongs: Callable[[dict[str, str]], bool]) -> None:
    """Kills processes with matching environments until there are none."""
    for _ in range(ROUNDS):
        found = [pid for pid, environment in _environments() if belongs(environment)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(PAUSE)


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    """Pid and environment of all processes on this machine that descend from a driver's warm server."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            text = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace")
        except OSError:  # another user's process, or gone
            continue
        if f"{DRIVER}=" in text and (_stat(int(name)) or SPARED)[0] not in SPARED:
            environment = dict(item.split("=", 1) for item in text.split("\0") if "=" in item)
            if DRIVER in environment:
                yield int(name), environment


def _may_live(driver: str) -> bool:
    """Whether the driver of this name may be running."""
    with contextlib.suppress(ValueError):
        pid, started, namespace = driver.split(":", 2)
        if namespace == _namespace():  # in another namespace (container), pids mean other processes
            fields = _stat(int(pid))
            return bool(fields) and fields[1] not in ("Z", "X") and fields[20] == started
    return True


@functools.cache
def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the name in parentheses on; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    name = text[text.index("(") : text.rindex(")") + 1]
    return [name, *text[text.rindex(")") + 1 :].split()]


if __name__ == "__main__":
    _stay_awake(sys.argv[1])
