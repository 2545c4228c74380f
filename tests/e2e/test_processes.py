"""Kills, signals and several processes, end to end: the installed command, its workers, its ranks."""

import functools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chaos
import psutil
import pytest
from process_helpers import DDP, TOY, Workspace, eventually

pytestmark = pytest.mark.slow
IMAGES = str(Path(TOY).with_name("images.yaml"))


@pytest.mark.parametrize("seed", ["0", "2"])
def test_a_chaos_run(tmp_path: Path, seed: str) -> None:
    """`make chaos` has ten such runs, each twice as long."""
    command = [sys.executable, chaos.__file__, "--seeds", seed, "--trials", "15", "--kills", "8"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "1 of 1 runs clean" in result.stdout, result.stdout + result.stderr


def test_eight_workers_and_a_hundred_trials_with_kills_run_each_exactly_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    study = ["study", TOY, "--trials", "100", "--workers", "8", "--no-test", "--model.seconds", "0.02"]
    command, chance, kills = workspace.start(*study), random.Random(0), 0
    while command.runs:
        time.sleep(0.5)
        workers = chaos.family(command.process.pid)["worker"]
        if workers and kills < 30 and workspace.events("metrics"):
            try:
                chance.choice(workers).send_signal(signal.SIGKILL)
                kills += 1
            except psutil.NoSuchProcess:
                pass
    status, answer, err = command.wait()
    assert status == 0, err
    assert kills >= 10 and "was killed by SIGKILL; resuming" in err
    assert [trial["number"] for trial in answer["trials"]] == list(range(100))
    assert {trial["state"] for trial in answer["trials"]} == {"COMPLETE"}
    assert (
        len({trial["run_id"] for trial in answer["trials"]})
        == 100
        == len(list(workspace.home.glob("trials/*/spec.json")))
    )
    assert len(workspace.events("finished")) == 100, "each has ended once"
    for curve in workspace.curves(answer["trials"], "val/loss"):
        assert len(curve) == 3 == len({step for step, _ in curve}), "nothing is lost, nothing is twice"
    assert workspace.is_empty() and workspace.is_sound()


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Any]:
    """Value and curves of an uninterrupted study of one trial."""

    @functools.cache
    def outcome(study: tuple[str, ...]) -> Any:
        workspace = Workspace(tmp_path_factory.mktemp("whole"))
        status, answer, err = workspace.run(*study)
        assert status == 0, err
        return answer["trials"][0]["value"], workspace.curves(answer["trials"])

    return outcome


@pytest.mark.parametrize(
    ("number", "exit_status", "ddp"),
    [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, []), (signal.SIGINT, 130, DDP)],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C in ddp"],
)
def test_a_signal_stops_and_the_same_command_resumes_bit_identically(
    tmp_path: Path, ddp: list[str], number: int, exit_status: int, never_stopped: Callable[[tuple[str, ...]], Any]
) -> None:
    study = ["study", IMAGES, "--trials", "1", "--pruner", "none", "--no-test", "--trainer.max_epochs", "60", *ddp]
    workspace = Workspace(tmp_path)
    command = workspace.start(*study)
    command.until(lambda: len(workspace.events("checkpoint")) >= 2)
    command.signal(number)
    status, answer, err = command.wait()
    assert status == exit_status and answer["status"] == "interrupted", err
    assert workspace.statuses("images") == [("RUNNING", "KILLED", "interrupted")]
    assert workspace.is_empty() and workspace.is_sound()
    status, answer, err = workspace.run(*study)
    assert status == 0 and workspace.statuses("images") == [("COMPLETE", "FINISHED", None)], err
    assert (answer["trials"][0]["value"], workspace.curves(answer["trials"])) == never_stopped(tuple(study))


@pytest.mark.parametrize("ddp", [[], DDP], ids=["one process", "ddp"])
def test_twice_stops_at_once_and_a_killed_driver_leaves_nobody(tmp_path: Path, ddp: list[str]) -> None:
    study = ["study", IMAGES, "--trials", "1", "--no-test", "--trainer.max_epochs", "100000", *ddp]
    workspace = Workspace(tmp_path)
    command = workspace.start(*study)
    command.until(lambda: len(workspace.events("checkpoint")) >= 2)
    command.kill()
    assert workspace.is_empty(), workspace.processes()
    assert workspace.statuses("images") == [("RUNNING", "RUNNING", None)]
    assert workspace.run("doctor")[0] == 1
    status, answer, err = workspace.run("doctor", "--fix")
    assert status == 0 and answer["sound"], (answer, err)
    assert workspace.statuses("images") == [("RUNNING", "KILLED", "interrupted")]
    command = workspace.start(*study)
    before = len(workspace.events("checkpoint"))
    command.until(lambda: len(workspace.events("checkpoint")) > before)
    assert workspace.is_sound(), "what runs is not ill"
    status, answer, err = workspace.run(*study)
    assert status == 2 and f"is being run by process {command.process.pid} on" in answer["error"], err
    assert command.runs
    command.signal(signal.SIGINT)
    command.signal(signal.SIGINT)
    status, _, err = command.wait(60)
    assert status == 130 and workspace.statuses("images") == [("RUNNING", "KILLED", "interrupted")], err
    assert workspace.is_empty()


@pytest.mark.parametrize("ddp", [[], DDP], ids=["one process", "ddp"])
def test_an_error_in_user_code_fails_one_trial(tmp_path: Path, ddp: list[str]) -> None:
    workspace = Workspace(tmp_path)
    status, _, err = workspace.run("study", TOY, "--trials", "1", "--model.trouble", "raise", "--no-test", *ddp)
    assert status == 1 and "the toy broke" in err
    assert workspace.statuses() == [("FAIL", "FAILED", "failed")]
    assert workspace.is_empty() and workspace.is_sound()


def test_a_study_of_trials_in_two_processes_each_with_a_pruner(tmp_path: Path) -> None:
    """Exactly one trial and one run per objective, no hyperparameter drawn twice, ranks that agree."""
    workspace = Workspace(tmp_path)
    study = ["study", IMAGES, "--trials", "4", "--no-test", "--pruner", "asha", "--seed", "1", *DDP]
    status, answer, err = workspace.run(*study)
    assert status == 0, err
    trials = answer["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    runs = {trial["run_id"] for trial in trials}
    assert len(runs) == 4
    states = [trial["state"] for trial in trials]
    assert "PRUNED" in states and "COMPLETE" in states, states
    rates = {trial["params"]["model.learning_rate"] for trial in trials}
    assert len(rates) == 4
    for run_id in runs:
        files = [workspace.home / "trials" / run_id / f"rank{rank}.jsonl" for rank in (0, 1)]
        first, second = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
        assert first == second and first, "what a callback sees is the same in every process"
    outcomes = {("COMPLETE", "FINISHED", None), ("PRUNED", "KILLED", "pruned")}
    assert set(workspace.statuses("images")) == outcomes
    assert workspace.is_empty() and workspace.is_sound()


def test_two_processes_of_8_follow_the_curve_of_one_of_16(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    train = ["train", IMAGES, "--no-test"]
    _, two, err = workspace.run(*train, "--data.batch_size", "8", *DDP)
    _, one, _ = workspace.run(*train, "--data.batch_size", "16")
    for name in ("val/loss", "val/accuracy", "train/loss"):
        curves = workspace.curves([{"run_id": answer["run_id"]} for answer in (two, one)], name)
        assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]], err
        assert [value for _, value in curves[0]] == pytest.approx([value for _, value in curves[1]], rel=1e-4)


def test_the_death_of_a_rank_fails_its_trial_within_seconds(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    study = ["study", IMAGES, "--trials", "1", "--no-test", "--trainer.max_epochs", "100000", *DDP]
    command = workspace.start(*study)
    command.until(lambda: len(workspace.events("checkpoint")) >= 2)
    rank0 = workspace.events("started")[0]["pid"]
    (rank1,) = [
        process for process in psutil.Process(rank0).children() if "studies.trial" in " ".join(process.cmdline())
    ]
    rank1.kill()
    assert eventually(lambda: workspace.events("failed"), 20), (workspace.home / "trials").rglob("log.txt")
    status, _, err = command.wait(60)
    assert status == 1 and workspace.statuses("images") == [("FAIL", "FAILED", "failed")], err
    assert workspace.is_empty() and workspace.is_sound()
