"""Start, address and end of the server, with a fake of MLflow's: a parent and a worker that answers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studies.web import mlflow_ui as ui

# Like `mlflow server`: a parent that starts a worker. The worker ignores SIGTERM, as with a connected browser.
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
from studies.web import mlflow_ui as ui
script, pids = sys.argv[1:]
ui.GRACE = 0.3
ui.server_command = lambda root, host, port: [sys.executable, script, "parent", str(port), pids]
sys.exit(ui.serve("sqlite:///none.db", "none", path="#/x", announce=lambda url: print(url, flush=True)))
"""


def is_alive(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
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


def test_a_server_that_does_not_start_is_reported_with_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('the database is of another version')"]
    monkeypatch.setattr(ui, "server_command", lambda *arguments: dying)
    announced: list[str] = []
    assert ui.serve("sqlite:///none.db", "none", announce=announced.append) == 1
    assert "the database is of another version" in capsys.readouterr().err
    assert announced == []


def test_a_running_server_is_only_referred_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **more: pytest.fail("a process was started"))
    announced: list[str] = []
    code = ui.serve("https://tracking.example/", "", open_browser=False, path="#/x", announce=announced.append)
    assert (code, announced) == (0, ["https://tracking.example/#/x"])


def test_the_server_is_light() -> None:
    command = ui.server_command("file:///home/artifacts", "127.0.0.1", 5000)
    assert command[command.index("--workers") + 1] == "1"
    assert "--backend-store-uri" not in command, "it may hold a password; other users can see it"
    assert ui.LIGHT["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert ui.LIGHT["MLFLOW_DISABLE_TELEMETRY"] == "true"
