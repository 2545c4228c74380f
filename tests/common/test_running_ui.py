"""The note about a running UI: followed only if it is alive, ours, and of this database."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studies.cli import output
from studies.common.locks import this_process
from studies.common.running_ui import NAME, remember_ui, removed_at_the_end, running_ui
from studies.common.state_folder import StateFolder
from studies.common.trust import make_own
from studies.driver.session import Result


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that answers /health, as MLflow's does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def state(empty_home: Path) -> StateFolder:
    make_own(empty_home)
    return StateFolder.find()


def note(state: StateFolder, **changed: Any) -> None:
    path = state.folder / NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_it_is_there_while_the_command_runs(state: StateFolder, server: str) -> None:
    assert running_ui(state) is None
    with removed_at_the_end(state):
        remember_ui(state, f"{server}/#/experiments/1?viewStateShareKey=x")
        assert running_ui(state) == server
    assert not (state.folder / NAME).exists() and running_ui(state) is None


def test_the_note_of_another_command_stays(state: StateFolder, server: str) -> None:
    with removed_at_the_end(state):
        remember_ui(state, server)
        note(state, process=f"{this_process()}0")
    assert (state.folder / NAME).exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"process": "elsewhere 1 2"},
        {"process": f"{this_process()}0"},
        {"database": "another"},
        {"url": "http://127.0.0.1:9"},
        {"url": "javascript:alert(1)"},
        {"url": "http://127.0.0.1:80\x1b[2J"},
        {"url": 3},
    ],
)
def test_a_note_that_is_stale_or_strange_is_not_followed(
    state: StateFolder, server: str, changed: dict[str, Any]
) -> None:
    remember_ui(state, server)
    note(state, **changed)
    assert running_ui(state) is None


def test_a_note_in_somebody_elses_folder_is_not_followed(
    state: StateFolder, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_ui(state, server)
    shutil.copytree(state.folder, tmp_path / "copy")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "copy"))
    assert running_ui(StateFolder.find()) is None


def test_a_pipe_in_its_place_does_not_block(state: StateFolder) -> None:
    os.mkfifo(state.folder / NAME)
    assert running_ui(state) is None
    with removed_at_the_end(state):
        pass


def test_a_tracking_server_has_its_ui(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000/")
    assert running_ui(StateFolder.find()) == "http://somewhere:5000"


def test_results_end_with_a_link(state: StateFolder, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"run_id": "ab12", "metrics": {}, "folder": "here", "error": None, "page": "#/x"}
    output.trained(Result("finished", 1.0, None, fields), as_json=False)
    assert capsys.readouterr().out.endswith("next:  harness ui\n")
    remember_ui(state, server)
    output.trained(Result("finished", 1.0, None, fields), as_json=False)
    assert capsys.readouterr().out.endswith(f"next:  {server}/#/x\n")
