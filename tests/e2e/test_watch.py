"""`harness watch` beside the process that drives the study."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from process_helpers import HARNESS, TOY, Command, Workspace, eventually
from schemas import check

STUDY = ["study", TOY, "--workers", "2", "--model.seconds", "0.1", "--trainer.max_epochs", "8", "--no-test"]


def watch(workspace: Workspace, *options: str) -> Command:
    return Command([HARNESS, "watch", "toy", *options], workspace.folder, workspace.environment)


@pytest.mark.slow
def test_a_study_is_watched_until_its_driver_is_killed_and_until_it_has_finished(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    driver = workspace.start(*STUDY, "--trials", "4")
    driver.until(lambda: workspace.events("metrics"))
    command = watch(workspace)
    other = watch(workspace)
    other.until(lambda: "started" in other.out.read_text())
    status, now, _ = watch(workspace, "--json").wait()
    assert status == 0 and now["status"] == "running" and now["total"] == 4
    check("watch", now)
    assert any(trial["state"] == "RUNNING" and trial.get("step") for trial in now["trials"])
    other.signal(signal.SIGINT)
    assert other.process.wait(20) == 130 and driver.runs, "leaving does not stop the study"
    command.until(lambda: "COMPLETE" in command.out.read_text())
    driver.kill()
    assert command.process.wait(20) == 1
    assert "study  toy  the process that ran it is gone" in command.out.read_text()

    driver = workspace.start(*STUDY, "--trials", "4")
    driver.until(lambda: len(workspace.events("started")) > 4)
    command = watch(workspace)
    assert driver.wait()[0] == 0
    assert command.process.wait(20) == 0
    text = command.out.read_text()
    assert text.endswith("study  toy  finished\n") and "\x1b" not in text
    assert workspace.is_empty()


def test_watching_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    ended = subprocess.run([HARNESS, "watch", "toy"], env=workspace.environment, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("harness: no studies yet in ")
    assert ended.stderr.count("\n") == 1 and eventually(lambda: not workspace.home.exists(), 1)
