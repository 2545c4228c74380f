"""What commands share that show a page of this machine: a port, the browser, and signals that end it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

_claims: list[IO[str]] = []  # locks on ports, held by being open


class Interrupted(BaseException):
    """A signal to stop. No `except Exception` on its way, of a server or of an import, may take it."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def choose_port(host: str, port: int | None, default: int) -> int:
    """A port that can be listened on, and that no other command of ours will take.

    Args:
        host: address to listen on.
        port: between 1 and 65535 inclusive; None: the default, or a free one if that is taken.
        default: the command's own.

    Raises:
        ValueError: in one line: the host is not of this machine, or the port is taken.
    """
    if port is not None:
        if not 1 <= port <= 65535:
            raise ValueError(f"port must be between 1 and 65535, but got port={port}")
        reason = _refusal(host, port)
        if reason is None and not _claimed(port):
            reason = "another harness is using it"
        if reason is not None:
            raise ValueError(f"port {port} of {host} cannot be used ({reason}): omit --port, or choose another")
        return port
    if _refusal(host, default) is None and _claimed(default):
        return default
    claimed = False
    while not claimed:
        with bound(host, 0) as free:
            found = int(free.getsockname()[1])
        claimed = _claimed(found)
    say(f"port {default} is taken, using port {found}")
    return found


def _claimed(port: int) -> bool:
    """Claims a port among all that start a server so, for as long as this process lives.

    MLflow's server binds its port only after 20 s of imports. Of two that had chosen the same one, the second
    would take the first one's answers for its own, and show another database.
    """
    lock = open(Path(tempfile.gettempdir()) / f"harness-port-{os.getuid()}-{port}.lock", "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    _claims.append(lock)
    return True


def _refusal(host: str, port: int) -> str | None:
    """Why nobody could listen there now, or None."""
    try:
        bound(host, port).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, so far without listening; port 0 is a free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ValueError(f"host must be an address of this machine, but got host={host}") from error
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is no hindrance
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"host must be an address of this machine, but got host={host}") from error
        raise
    return taken


def reachable(host: str) -> str:
    """How a browser on this machine calls the host: "every address" is none."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def show(url: str, announce: Callable[[str], None], open_browser: bool) -> None:
    """Announces an address that answers and, where it can and is wanted, opens it in a browser."""
    announce(url)
    # Without a display webbrowser would start a browser for terminals, in this terminal.
    if open_browser and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """The first signal to stop raises; an impatient second Ctrl-C does not disturb what the first one began."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signum)

    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
