"""Full disks, too little memory, locked databases and unreachable servers, end to end."""

import functools
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import TOY, Server, Workspace, eventually

pytestmark = pytest.mark.slow
STUDY = ["study", TOY, "--no-test", "--trials", "3", "--workers", "2"]
SLOWLY = [*STUDY, "--model.seconds", "0.05", "--trainer.max_epochs", "8"]
SAVING = [*SLOWLY, "--trainer.log_every_n_steps", "1000"]  # mostly writes checkpoints
SAYING = [
    *STUDY,
    "--data.points",
    "3200",
    "--model.seconds",
    "0.005",
]  # mostly writes events: hundreds of lines between two checkpoints
Outcome = tuple[list[object], list[list[tuple[int, float]]]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Outcome]:
    """Leaderboard and curves of an undisturbed study."""

    @functools.cache
    def outcome(study: tuple[str, ...]) -> Outcome:
        workspace = Workspace(tmp_path_factory.mktemp("calm"))
        return outcome_of(workspace, workspace.run(*study))

    return lambda study: outcome(tuple(study))


def outcome_of(workspace: Workspace, result: tuple[int, dict[str, Any], str]) -> Outcome:
    status, answer, err = result
    assert status == 0 and "broken" not in err, err
    return [(trial["number"], trial["value"]) for trial in answer["trials"]], workspace.curves(answer["trials"])


class SmallDisk:
    """A file system of a few MB, in memory."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)

    def fill(self) -> None:
        with open(self.path / "ballast", "wb", buffering=0) as file:
            block = bytes(65536)
            while block:
                try:
                    file.write(block)
                except OSError:
                    block = block[: len(block) // 2]

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def disks() -> Iterator[list[SmallDisk]]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk to fill")
    mounted: list[SmallDisk] = []
    yield mounted
    for disk in mounted:
        disk.unmount()


@pytest.mark.parametrize("what", ["checkpoint", "event", "mlflow", "optuna"])
def test_a_full_disk_is_one_clear_error_and_with_space_the_study_resumes_undisturbed(
    tmp_path: Path, disks: list[SmallDisk], what: str, calm: Callable[[list[str]], Outcome]
) -> None:
    """The file that does not fit: a checkpoint, an event log, MLflow's or Optuna's database."""
    workspace = Workspace(tmp_path)
    study, extra = {"checkpoint": SAVING, "event": SAYING}.get(what, SLOWLY), []
    if what in ("checkpoint", "event"):
        disks.append(SmallDisk(workspace.home / "trials", 8))
    else:
        disks.append(SmallDisk(tmp_path / "small", 8))
        url = f"sqlite:///{tmp_path}/small/{what}.db"
        if what == "mlflow":
            workspace.environment["MLFLOW_TRACKING_URI"] = workspace.uri = url
        else:
            workspace.storage = url
            extra = ["--storage", url]
    command = workspace.start(*study, *extra)
    command.until(lambda: len(workspace.events("checkpoint")) >= 3)
    disks[0].fill()
    status, _, err = command.wait()
    (line,) = [line for line in err.splitlines() if line.startswith("harness: ")]
    assert status == 1 and "no space left" in line and "Traceback" not in err, err
    assert workspace.is_empty()
    disks[0].free()
    assert outcome_of(workspace, workspace.run(*study, *extra)) == calm(study)
    assert workspace.is_sound(*extra)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group of 3 GB: its processes file."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory" / "memory.limit_in_bytes").exists()
    group = (root / "memory" if old else root) / f"harness-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text("3000000000")
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    yield group / "cgroup.procs"
    assert eventually(lambda: not (group / "cgroup.procs").read_text(), 20)
    group.rmdir()


def test_an_oom_killed_trial_fails_with_the_reason(tmp_path: Path, small_memory: Path) -> None:
    workspace = Workspace(tmp_path)
    study = ["study", TOY, "--trials", "1", "--no-test", "--model.trouble", "starve"]
    command = workspace.start(*study)
    small_memory.write_text(str(command.process.pid))
    status, answer, err = command.wait()
    assert status == 1 and [trial["state"] for trial in answer["trials"]] == ["FAIL"], err
    assert "out of memory: its process used" in err and "3000 MB are available, data.batch_size=" in err
    assert workspace.statuses() == [("FAIL", "FAILED", "failed")]
    assert workspace.is_sound()


def test_a_database_locked_for_a_minute_loses_no_metric(tmp_path: Path, calm: Callable[[list[str]], Outcome]) -> None:
    workspace = Workspace(tmp_path)
    command = workspace.start(*SLOWLY)
    command.until(lambda: len(workspace.events("checkpoint")) >= 2)
    connection = sqlite3.connect(workspace.home / "mlflow.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    said = len(workspace.events("metrics"))
    time.sleep(60)
    assert len(workspace.events("metrics")) > said, "training continues"
    assert command.runs
    connection.execute("ROLLBACK")
    connection.close()
    result = command.wait()
    assert outcome_of(workspace, result) == calm(SLOWLY)
    assert "waiting for MLflow (" in result[2] and "locked" in result[2] and "MLflow is responding again" in result[2]
    assert workspace.is_sound()


def test_a_server_that_is_gone_for_a_while_loses_no_metric(
    tmp_path: Path, calm: Callable[[list[str]], Outcome]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    workspace = Workspace(tmp_path, MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_TIMEOUT="20")
    workspace.uri = uri
    server = Server(tmp_path, port)
    server.start()
    command = workspace.start(*SLOWLY)
    command.until(lambda: len(workspace.events("checkpoint")) >= 2)
    server.stop()
    said = len(workspace.events("metrics"))
    time.sleep(15)
    assert len(workspace.events("metrics")) > said, "training continues"
    server.start()
    result = command.wait()
    assert outcome_of(workspace, result) == calm(SLOWLY)
    assert "waiting for MLflow (" in result[2] and "MLflow is responding again" in result[2]
    assert workspace.is_sound()
    server.stop()


def test_many_that_start_on_an_empty_folder_all_succeed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    commands = [workspace.start("train", TOY, "--seed", str(seed)) for seed in range(4)]
    commands += [workspace.start("study", TOY, "--trials", "1", "--study-name", f"s{n}", "--no-test") for n in range(4)]
    for command in commands:
        status, answer, err = command.wait()
        assert status == 0 and answer["status"] == "finished", err
    assert workspace.is_sound()
    assert not list(workspace.home.glob(".*tmp*"))
