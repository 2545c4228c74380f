"""Start, address and end of the server, with a stand-in for MLflow's: a parent and a worker that answers."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from studies import ui

# Like `mlflow server`: a parent that starts a worker. The worker will not end by SIGTERM, as with a browser connected.
STAND_IN = """
import http.server, json, os, signal, subprocess, sys
if sys.argv[1] == "parent":
    worker = subprocess.Popen([sys.executable, __file__, "worker", *sys.argv[2:]])
    open(sys.argv[3], "w").write(json.dumps([os.getppid(), os.getpid(), worker.pid]))
    worker.wait()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"OK")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""

HARNESS_UI = """
import sys
from studies import ui
script, pids = sys.argv[1:]
ui.GRACE = 0.3
ui.server_command = lambda uri, root, host, port: [sys.executable, script, "parent", str(port), pids]
sys.exit(ui.serve("sqlite:///none.db", "none", path="#/x", announce=lambda url: print(url, flush=True)))
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_process_is_left(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    script, pids = tmp_path / "stand_in.py", tmp_path / "pids"
    script.write_text(STAND_IN)
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS_UI, str(script), str(pids)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(ui.__file__).parents[1],
    )
    group: list[int] = []
    try:
        assert harness.stdout is not None
        url = harness.stdout.readline()
        assert url.startswith("http://127.0.0.1:") and url.endswith("/#/x\n")
        group = json.loads(pids.read_text())
        assert all(is_alive(pid) for pid in group)
        harness.send_signal(signum)
        _, said = harness.communicate(timeout=30)
        assert harness.returncode == code
        assert "Traceback" not in said
        deadline = time.monotonic() + 20
        while any(is_alive(pid) for pid in group) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(is_alive(pid) for pid in group)
    finally:
        for pid in [harness.pid, *group]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_server_that_does_not_start_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('the database is of another version')"]
    monkeypatch.setattr(ui, "server_command", lambda *arguments: dying)
    announced: list[str] = []
    assert ui.serve("sqlite:///none.db", "none", announce=announced.append) == 1
    assert "the database is of another version" in capsys.readouterr().err
    assert announced == []


def test_a_running_server_is_only_pointed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **more: pytest.fail("a process was started"))
    announced: list[str] = []
    code = ui.serve("https://tracking.example/", "", open_browser=False, path="#/x", announce=announced.append)
    assert (code, announced) == (0, ["https://tracking.example/#/x"])


def test_a_browser_is_opened_only_where_there_is_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display in ("", ":0"):
        monkeypatch.setenv("DISPLAY", display)
        ui.serve("http://tracking.example", "", announce=lambda url: None)
    assert opened == ["http://tracking.example/"]


def test_a_port_asked_for_and_taken_is_an_error(taken: int) -> None:
    with pytest.raises(ValueError, match=rf"^port {taken} of 127.0.0.1 cannot be used \(Address already in use\)"):
        ui.serve("sqlite:///none.db", "none", port=taken)


def test_the_default_port_gives_way_when_taken(
    taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "DEFAULT_PORT", taken)
    asked: list[int] = []

    def command(uri: str, root: str, host: str, port: int) -> list[str]:
        asked.append(port)
        return [sys.executable, "-c", ""]

    monkeypatch.setattr(ui, "server_command", command)
    ui.serve("sqlite:///none.db", "none")
    assert len(asked) == 1 and asked[0] != taken
    assert f"port {taken} is taken, so port {asked[0]} it is" in capsys.readouterr().err


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_an_error(port: int) -> None:
    with pytest.raises(ValueError, match=f"port must be between 1 and 65535, but got port={port}"):
        ui.serve("sqlite:///none.db", "none", port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
@pytest.mark.parametrize("port", [None, 5000])
def test_a_host_that_is_not_here_is_an_error(host: str, port: int | None) -> None:
    with pytest.raises(ValueError, match=f"host must be an address of this machine, but got host={re.escape(host)}"):
        ui.serve("sqlite:///none.db", "none", host=host, port=port)


def test_the_server_is_light() -> None:
    command = ui.server_command("sqlite:////home/mlflow.db", "file:///home/artifacts", "127.0.0.1", 5000)
    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--backend-store-uri") + 1] == "sqlite:////home/mlflow.db"
    assert ui.LIGHT["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert ui.LIGHT["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_of_two_that_start_at_once_each_has_a_port_of_its_own() -> None:
    """Neither server listens yet, for both still import: the second must not take the answers of the first."""
    script = "import sys; from studies.ui import _choose_port; print(_choose_port('127.0.0.1', None), flush=True)"
    commands = [[sys.executable, "-c", f"{script}; sys.stdin.read()"]] * 2
    both = [subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in commands]
    ports = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        process.communicate("")
    assert len(set(ports)) == 2 and all(int(port) for port in ports)
