"""Ends the processes that a trial process started and left behind. Standard library only.

A trial process leads a process group, which is ended with it: DataLoader workers, subprocesses, all that those start.
Two kinds escape that: what has a session of its own, and all there is where driver and trial are killed at once. They
are known by their environment, which every process inherits from the warm server, and ended by a watchdog: this file,
run as a script, which is told when a trial process has ended and hears, by the end of its input, that the driver has.
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

DRIVER = "HARNESS_DRIVER"  # in the environment of all that a driver's warm server starts: see `this_driver`
TRIAL = "HARNESS_TRIAL_PROCESS"  # in that of programs started by a trial process: its number
SPARED = ("(torch_shm_manag)",)  # PyTorch's; it ends by itself once its clients are gone, and then removes their files
ROUNDS, PAUSE = 100, 0.03  # how often processes are looked for, for some may be starting others, and how far apart


def this_driver() -> str:
    """A name of this process that no later one has: number, start time, and where that number is valid."""
    return f"{os.getpid()}:{_stat(os.getpid())[20]}:{_namespace()}"


def is_running(pid: int) -> bool:
    """Whether there is a process of that number that has not ended; a zombie has."""
    fields = _stat(pid)
    return bool(fields) and fields[1] not in ("Z", "X")


def end_group(leader: int) -> None:
    """Kills a process and the group that it leads, if it has got to that."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(leader, signal.SIGKILL)


def end_rest_of_group(leader: int) -> None:
    """Kills what is left of a group whose leader is gone."""
    if not is_running(leader):  # or else the number is another process's by now: a group in use keeps its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def end_leftovers() -> None:
    """Kills what is left of drivers that are gone."""
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
    """Lets the watchdog look for what has left the process's group and is still there."""
    if os.getpid() in _WATCHDOGS:
        _, pipe = _WATCHDOGS[os.getpid()]
        with contextlib.suppress(OSError):  # somebody killed it: the next driver ends what is left
            os.write(pipe, b"\n")


_WATCHDOGS: dict[int, tuple[subprocess.Popen[bytes], int]] = {}  # by the process they watch: a fork has none


@atexit.register
def _end_watchdog() -> None:
    """Waits for it, so that nothing is left when the driver has ended."""
    if os.getpid() in _WATCHDOGS:
        process, pipe = _WATCHDOGS.pop(os.getpid())
        os.close(pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ROUNDS * PAUSE)


def _stay_awake(driver: str) -> None:
    """The watchdog's life."""

    def of_an_ended_trial(environment: dict[str, str]) -> bool:
        trial = environment.get(TRIAL, "")
        return environment[DRIVER] == driver and trial.isdigit() and not is_running(int(trial))

    while os.read(0, 4096):
        _end_all(of_an_ended_trial)
    _end_all(lambda environment: environment[DRIVER] == driver)


def _end_all(belongs: Callable[[dict[str, str]], bool]) -> None:
    """Kills processes with such environments, until there are none."""
    for _ in range(ROUNDS):
        found = [pid for pid, environment in _environments() if belongs(environment)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(PAUSE)


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    """The processes on this machine that a driver's warm server or its descendants started."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            text = Path(f"/proc/{name}/environ").read_bytes().decode(errors="replace")
        except OSError:  # another user's, or gone
            continue
        if f"{DRIVER}=" in text and (_stat(int(name)) or SPARED)[0] not in SPARED:
            environment = dict(item.split("=", 1) for item in text.split("\0") if "=" in item)
            if DRIVER in environment:
                yield int(name), environment


def _may_live(driver: str) -> bool:
    """Whether the driver of such a name may be running."""
    with contextlib.suppress(ValueError):
        pid, started, namespace = driver.split(":", 2)
        if namespace == _namespace():  # elsewhere, in a container perhaps, numbers mean other processes
            fields = _stat(int(pid))
            return bool(fields) and fields[1] not in ("Z", "X") and fields[20] == started
    return True


@functools.cache
def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its name in parentheses on; nothing if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    name = text[text.index("(") : text.rindex(")") + 1]
    return [name, *text[text.rindex(")") + 1 :].split()]


if __name__ == "__main__":
    _stay_awake(sys.argv[1])
