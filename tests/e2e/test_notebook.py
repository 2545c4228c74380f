"""docs/notebook.ipynb, and a kernel that is interrupted, restarted and asked again."""

import os
import re
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from process_helpers import Workspace
from test_python_api import EXPERIMENT, LONG, TOY, wait_for_events

pytestmark = pytest.mark.slow
NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def html(cell: Any) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A state folder that kernels of this test use."""
    workspace = Workspace(tmp_path)
    monkeypatch.setenv("HARNESS_HOME", str(workspace.home))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return workspace


def test_the_notebook_of_the_docs_runs(workspace: Workspace, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "it is stored without outputs"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(html(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert re.search(r"study spiral finished in \d+ s: best val/accuracy", shown)
    assert shown.count("data:image/png;base64,") >= 4, "pictures are in the cells"
    if folder := os.environ.get("HARNESS_SCREENSHOTS"):
        nbformat.write(notebook, Path(folder) / "notebook.ipynb")


def execute(client: Any, code: str) -> dict[str, Any]:
    return dict(client.execute_interactive(code, timeout=300, output_hook=lambda message: None)["content"])


def test_interrupting_the_kernel_stops_cleanly_and_a_new_kernel_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        assert execute(client, TOY + EXPERIMENT)["status"] == "ok"
        client.execute(LONG, stop_on_error=False)  # an error would abort what arrives just after it
        wait_for_events(workspace)
        time.sleep(0.5)
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=120)["content"]
        assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt"
        assert {process.pid for process in workspace.processes()} <= {manager.provisioner.pid}, "only the kernel"
        assert execute(client, "studies.study(toy, trials=1)")["status"] == "ok"
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        lines: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            lines.append(str(message["content"].get("data", {}).get("text/html", "")))

        said = client.execute_interactive(TOY + EXPERIMENT, timeout=300, output_hook=hook)["content"]
        assert said["status"] == "ok"
        said = client.execute_interactive("result = studies.study(toy, trials=2)", timeout=300, output_hook=hook)
        assert said["content"]["status"] == "ok"
        shown = "".join(lines)
        assert "resuming study mine: 1 of 2 trials are done" in shown
        assert "changed code" not in shown, "equal cells are the same code, in another kernel too"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
