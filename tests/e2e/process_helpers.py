"""Shared by the end-to-end tests: runs the installed command in the background, and inspects its results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service import utils

from studies.search import Search

HARNESS = str(Path(sys.executable).parent / "harness")
TOY = str(Path(__file__).parents[1] / "toy" / "toy.yaml")
DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"]


class Workspace:
    """A state folder and the commands run on it.

    Args:
        folder: where mlruns/ and the output of commands go.
        environment: in addition to this process's own.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.home = folder / "mlruns"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HARNESS_", "MLFLOW_"))}
        self.environment = {**kept, "HARNESS_HOME": str(self.home), **environment}
        self.uri = f"sqlite:///{self.home}/mlflow.db"
        self.storage = f"sqlite:///{self.home}/optuna.db"

    def start(self, *arguments: str) -> Command:
        return Command([HARNESS, *arguments, "--json"], self.folder, self.environment)

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit status, the JSON object and stderr of `harness ... --json`."""
        return self.start(*arguments).wait()

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind in the trials' logs."""
        found = []
        for path in self.home.glob("trials/*/events.jsonl"):
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if event["kind"] == kind]

    def statuses(self, study: str = "toy") -> list[tuple[str, str, str | None]]:
        """Each trial's Optuna state, MLflow status and outcome.

        A killed driver may not have stored a trial's run id; the next one finds the run by its tags.
        """
        client = MlflowClient(tracking_uri=self.uri)
        rows = []
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        for row in Search.existing(self.storage, study).trials():
            run_id = row.run_id
            if run_id is None:
                its = f"tags.`harness.study` = '{study}' and tags.`harness.trial` = '{row.number}'"
                (found,) = client.search_runs(experiments, its)
                run_id = found.info.run_id
            run = client.get_run(run_id)
            rows.append((row.state, run.info.status, run.data.tags.get("harness.outcome")))
        return rows

    def curves(self, trials: list[dict[str, Any]], *names: str) -> list[list[tuple[int, float]]]:
        """The stored points of the metrics, by trial. MLflow keeps one of equal points of the same millisecond."""
        client = MlflowClient(tracking_uri=self.uri)
        return [
            sorted({(m.step, m.value) for m in client.get_metric_history(trial["run_id"], name)})
            for trial in trials
            for name in names or ("val/loss", "train/loss", "epoch")
        ]

    def is_sound(self, *arguments: str) -> bool:
        status, answer, err = self.run("doctor", *arguments)
        assert status == 0, (answer, err)
        return bool(answer["sound"])

    def processes(self) -> list[psutil.Process]:
        """Processes that work on this folder, including servers."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HARNESS_HOME") == str(self.home) and process.status() != "zombie":
                    found.append(process)
        return found

    def is_empty(self) -> bool:
        """Whether all its processes end within seconds."""
        return eventually(lambda: not self.processes(), 20)


class Command:
    """A command that runs in the background, with output to files."""

    def __init__(self, argv: list[str], folder: Path, environment: dict[str, str]) -> None:
        number = len(list(folder.glob("*.out")))
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.process = subprocess.Popen(argv, stdout=out, stderr=err, cwd=folder, env=environment)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds: float = 400) -> tuple[int, dict[str, Any], str]:
        status = self.process.wait(seconds)
        lines = self.out.read_text().splitlines()
        return status, json.loads(lines[-1]) if lines else {}, self.err.read_text()

    def until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Waits for a condition while the command runs."""
        assert eventually(lambda: condition() or not self.runs, seconds), self.err.read_text()
        assert self.runs, self.err.read_text()


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def forget_open_databases() -> None:
    """Clears MLflow's cache of open databases, whose files may have been replaced."""
    utils._artifact_repos_cache.clear()
    utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()
    SqlAlchemyStore._engine_map.clear()


class Server:
    """An MLflow tracking server that can be stopped and restarted."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **light}, start_new_session=True
            )
        assert eventually(self._answers, 90), (self.folder / "server.log").read_text()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
