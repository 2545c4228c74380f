"""Shared by commands that serve a local page: port selection, browser, and signals."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
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

from studies.common.text import visible

_claims: list[IO[str]] = []  # locks on ports, held while open


class Interrupted(BaseException):
    """A signal to stop. A BaseException, so that no `except Exception` of a server or import swallows it."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def choose_port(host: str, port: int | None, default: int) -> int:
    """Chooses a port that is free and not claimed by another harness command.

    Args:
        host: address to listen on.
        port: between 1 and 65535 inclusive; None: the default, or a free one if that is taken.
        default: the command's default port.

    Raises:
        ValueError: in one line: the host is not an address of this machine, or the port is taken.
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
    """Claims a port among harness commands for the lifetime of this process.

    MLflow's server binds its port only after 20 s of imports. If two commands chose the same port, the second would
    mistake the first one's server for its own and show another database.
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
    """Why the address cannot be listened on, or None."""
    try:
        bound(host, port).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening; port 0: any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ValueError(f"host must be an address of this machine, but got host={host}") from error
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore TIME_WAIT
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"host must be an address of this machine, but got host={host}") from error
        raise
    return taken


def warn_if_open(host: str, what: str) -> None:
    """Says what a host other than this machine's own addresses opens to the network.

    Args:
        what: "anyone who reaches this machine can ...".
    """
    try:
        addresses = {ipaddress.ip_address(item[4][0]) for item in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return  # it cannot be listened on, which is said elsewhere
    if not all(address.is_loopback for address in addresses):
        say(f"--host {host}: anyone who reaches this machine over the network can {what}")


def reachable(host: str) -> str:
    """The host name for a browser on this machine: wildcard addresses become localhost."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def show(url: str, announce: Callable[[str], None], open_browser: bool) -> None:
    """Announces a URL that answers and, if requested and possible, opens it in a browser."""
    announce(url)
    # Without a display, webbrowser would start a text browser in this terminal.
    if open_browser and (sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Makes the first stop signal raise Interrupted; later ones are ignored during the cleanup."""
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
    print(visible(text), file=sys.stderr, flush=True)
