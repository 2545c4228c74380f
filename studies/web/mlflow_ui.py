"""`harness ui`: runs MLflow's tracking server on this machine and cleans up all of its processes.

The server is `mlflow server` with one worker and no job runners, in its own process group, under a guard (this file,
run as a script) that ends the group when `harness ui` is gone, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO

from studies.web.local_server import Interrupted, choose_port, reachable, say, show, signals_raise, warn_if_open

DEFAULT_PORT = 5000
STARTING = 180.0  # seconds to wait for the first answer; a cold disk and two cores take 20 to 40
GRACE = 3.0  # seconds from SIGTERM to SIGKILL; a browser's open connections keep the server from exiting

BACKEND = "MLFLOW_BACKEND_STORE_URI"
LIGHT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def serve(
    tracking_uri: str,
    artifact_root: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    path: str = "",
    announce: Callable[[str], None] = print,
) -> int:
    """Shows MLflow's UI: starts a tracking server and runs until stopped, or refers to a running one.

    Args:
        tracking_uri: the database to serve, or the http(s) URL of a server; then nothing is started.
        artifact_root: URI of the folder for artifacts of experiments made through this server.
        host: address to listen on.
        port: between 1 and 65535 inclusive; None: 5000, or a free one if that is taken.
        open_browser: also open the URL in a browser, if there is a display.
        path: URL path to show, from "#/" on.
        announce: called with the URL, once it answers.

    Returns:
        The exit code: 0 for an existing server, 1 if the server exited unexpectedly, 130 after Ctrl-C, 143 after
        SIGTERM.

    Raises:
        ValueError: the host or port cannot be used.
    """
    if tracking_uri.startswith(("http://", "https://")):
        show(f"{tracking_uri.rstrip('/')}/{path}", announce, open_browser)
        return 0
    warn_if_open(host, "read, change and delete runs, and read their artifacts")
    port = choose_port(host, port, DEFAULT_PORT)
    address = f"http://{reachable(host)}:{port}"
    command = server_command(artifact_root, host, port)
    try:
        with signals_raise(), tempfile.TemporaryFile() as log, _running(command, tracking_uri, log) as guard:
            if not _wait_until_it_answers(guard, address + "/health"):
                say(f"the tracking server did not start:\n{_tail(log)}")
                return 1
            show(f"{address}/{path}", announce, open_browser)
            say("MLflow is up: press Ctrl-C to stop")
            guard.wait()
            say(f"the tracking server exited unexpectedly:\n{_tail(log)}")
            return 1
    except Interrupted as interrupt:
        say("the tracking server has stopped")
        return 128 + interrupt.signum


def server_command(artifact_root: str, host: str, port: int) -> list[str]:
    """The command for MLflow's server with two processes instead of eleven; see also `LIGHT`.

    It reads the database's URL, which may hold a password, from BACKEND.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--uvicorn-opts", "--no-access-log"]
    command += ["--host", host, "--port", str(port)]
    return [*command, "--default-artifact-root", artifact_root]


@contextlib.contextmanager
def _running(command: list[str], tracking_uri: str, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the server's guard in its own process group, and ends the whole group afterwards."""
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__, *command],  # -P: keep this file's folder off the path
        stdin=subprocess.PIPE,  # closed when this process ends in any way
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **LIGHT, BACKEND: tracking_uri},
        start_new_session=True,
    )
    try:
        yield guard
    finally:
        _stop(guard)


def _wait_until_it_answers(guard: subprocess.Popen[bytes], url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for local requests
    begin = time.monotonic()
    say("starting MLflow's tracking server (about 20 s)")
    while guard.poll() is None and time.monotonic() - begin < STARTING:
        if sys.stderr.isatty():
            print(f"\r{time.monotonic() - begin:4.0f} s ", end="", file=sys.stderr, flush=True)
        try:
            with direct.open(url, timeout=5):
                break
        except OSError:  # includes URLError
            time.sleep(0.25)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr, flush=True)
    return guard.poll() is None and time.monotonic() - begin < STARTING


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """Ends the guard, mlflow and its worker."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            guard.poll()  # reaps it: a dead, unreaped process still counts as one of its group
            os.killpg(guard.pid, 0)
            time.sleep(0.05)
        os.killpg(guard.pid, signal.SIGKILL)
    guard.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-15:])


def watch(command: list[str]) -> int:
    """Runs a command until it exits or standard input is closed; then ends this process's whole group.

    Returns:
        The command's exit code, if it exited by itself.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None:
        ended, _, _ = select.select([sys.stdin], [], [], 0.5)
        if ended:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
            time.sleep(GRACE)
            os.killpg(0, signal.SIGKILL)
    return child.returncode


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
