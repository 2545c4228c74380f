"""A registered champion behind `mlflow models serve`: batches and words of other sizes than its example's."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from process_helpers import Workspace, eventually
from test_predict import FAMILIES

SHAPES = {
    "table": [(1, 2), (2, 2), (5, 2)],
    "images": [(1, 1, 28, 28), (2, 1, 28, 28), (5, 1, 28, 28)],
    "words": [(1, 1), (2, 12), (5, 4), (1, 12)],
}


@contextlib.contextmanager
def served(workspace: Workspace, name: str) -> Iterator[str]:
    """The URL of a server of a champion."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = str(Path(sys.executable).parent)  # so that MLflow finds uvicorn
    environment = {**workspace.environment, "MLFLOW_TRACKING_URI": workspace.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = here + os.pathsep + environment["PATH"]
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local"]
    with open(workspace.folder / "server.txt", "w") as log:
        server = subprocess.Popen(
            [f"{here}/mlflow", *command[1:], "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=workspace.folder,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{address}/ping", timeout=5).status == 200)
        return server.poll() is not None

    try:
        assert eventually(answers, 180) and server.poll() is None, (workspace.folder / "server.txt").read_text()
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(address: str, inputs: Any) -> Any:
    body = json.dumps({"inputs": inputs.tolist()}).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "gives"), [("table", 1), ("images", 10), ("words", 13)])
def test_a_champion_answers_over_http(family: str, gives: int, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    name, *arguments = FAMILIES[family]
    status, _, err = workspace.run("study", name, "--trials", "1", *arguments)
    assert status == 0, err
    with served(workspace, name) as address:
        for shape in SHAPES[family]:
            inputs = torch.randint(3, 29, shape) if family == "words" else torch.randn(shape)
            assert torch.tensor(ask(address, inputs)).shape == (shape[0], gives)
        if family == "words":
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask(address, torch.randint(3, 29, (2, 13)))
