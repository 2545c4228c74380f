"""`harness replay`, with a module of the user's own, partly uncommitted, in a git repository."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from process_helpers import Workspace

NET = Path(__file__).parent / "replayed" / "net.py"
EXPERIMENT = """
model: {class_path: net.Net}
data: {class_path: net.Table}
trainer: {max_epochs: 3, log_every_n_steps: 1, accelerator: cpu}
seed: 1
search: {metric: val/loss, direction: minimize, space: {}}
"""


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    """A committed module with an uncommitted change, an untracked helper and ignored data; trained once."""
    shutil.copy(NET, tmp_path)
    (tmp_path / "exp.yaml").write_text(EXPERIMENT)
    (tmp_path / ".gitignore").write_text("mlruns\n*.csv\n")
    numbers = random.Random(0)
    rows = [(numbers.random(), numbers.random()) for _ in range(64)]
    (tmp_path / "table.csv").write_text("".join(f"{a},{b},{a - b}\n" for a, b in rows))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    edit(tmp_path / "net.py", "lr=0.01", "lr=0.02")
    (tmp_path / "helper.py").write_text("WIDTH = 8\n")
    workspace = Workspace(tmp_path)
    status, _, err = workspace.run("train", "exp.yaml", "--threads", "1")
    assert status == 0, err
    return workspace


@pytest.mark.slow
def test_replay_is_identical_or_names_what_changed(project: Workspace) -> None:
    folder, home = project.folder, project.home
    (run,) = home.glob("trials/*")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    edit(folder / "helper.py", "8", "9")
    edit(folder / "net.py", "Dropout(0.1)", "Dropout(0.2)")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "second")

    status, answer, err = project.run("replay", "latest")  # with the run's code
    assert status == 0 and answer["identical"] and not answer["differences"], f"{answer}\n{err}"
    assert answer["compared"] == {"epochs": 3, "samples": 3, "values": answer["compared"]["values"]}
    assert answer["compared"]["values"] > 24
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert [path.name for path in home.glob("trials/*")] == [run.name]

    rows = (folder / "table.csv").read_text().splitlines()
    (folder / "table.csv").write_text("\n".join(["0.5,0.5,0.9", *rows[1:]]) + "\n")
    edit(run / "artifacts" / "provenance" / "packages.txt", "torch==", "torch==0.")
    status, answer, err = project.run("replay", "latest", "--here", "--threads", "2")
    assert status == 1 and not answer["identical"], err
    texts = [difference["text"] for difference in answer["differences"]]
    assert [difference["kind"] for difference in answer["differences"]][:2] == ["code", "code"]
    assert any(text.startswith("net.py:16: ") and "Dropout(0.2)" in text for text in texts)
    assert "helper.py:1: WIDTH = 8 -> WIDTH = 9" in texts
    assert any(text.startswith("the train data differ") for text in texts)
    assert any(text.startswith("torch 0.") for text in texts)
    assert "threads: 1, now 2" in texts
    assert answer["parts"]["epoch"] == 0 and answer["weights"]["total"] == 4


@pytest.mark.slow
def test_an_interrupted_replay_leaves_nothing(project: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    project.environment["TMPDIR"] = str(scratch)
    command = project.start("replay", "latest")
    command.until(lambda: list(scratch.glob("harness-replay-*/run/spec.json")) != [])
    command.signal(signal.SIGINT)
    status, _, _ = command.wait()
    assert status == 130 and not list(scratch.glob("harness-replay-*"))
