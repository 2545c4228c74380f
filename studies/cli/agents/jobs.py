"""Commands that run in the background for `harness mcp`, and go on when the server ends.

Each has a folder in the user's own state folder with its command, its output and its log, so that another server, or
the same one after a restart, knows it too. The databases hold the results: a job's folder can be deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from studies.cli.bad_input import BadInput
from studies.common.atomic_files import write_whole
from studies.common.strict_json import json_line
from studies.common.suggestions import did_you_mean
from studies.common.text import visible

HARNESS = [sys.executable, "-P", "-m", "studies.cli.main"]  # -P: the current folder may have a package `studies`
KEPT = 7 * 24 * 3600  # seconds for which an ended job is kept
TAIL = 8_000  # bytes at the end of a log from which the latest lines are taken
LINES = 10


def default_folder() -> Path:
    """The user's folder of jobs, beside the list of own state folders.

    Raises:
        BadInput: there is no home folder.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").expanduser()
    except RuntimeError:
        raise BadInput("there is no home folder to keep jobs in: set XDG_STATE_HOME") from None
    return state / "harness" / "jobs"


class Jobs:
    """The jobs of one state folder.

    Args:
        folder: where jobs are kept.
        state_folder: the state folder that their commands work on.
        most: how many may run at once.
    """

    def __init__(self, folder: Path, state_folder: Path, most: int) -> None:
        self._folder, self._state_folder, self._most = folder, str(state_folder), most
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for path in self._all():
            if time.time() - path.stat().st_mtime > KEPT and self._ended(path):
                shutil.rmtree(path, ignore_errors=True)

    def start(self, arguments: list[str]) -> str:
        """Starts `harness ARGUMENTS` in a session of its own; returns the job's id.

        Raises:
            BadInput: too many are running.
        """
        running = [path.name for path in self._all() if not self._ended(path)]
        if len(running) >= self._most:
            raise BadInput(
                f"{len(running)} jobs are running ({', '.join(running)}), and at most {self._most} may: wait, stop "
                "one, or start the server with a larger --jobs"
            )
        job = secrets.token_hex(4)
        path = self._folder / job
        path.mkdir(parents=True, mode=0o700)
        with open(path / "answer", "wb") as out, open(path / "log", "wb") as err:
            child = subprocess.Popen(
                [*HARNESS, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        self._children[job] = child
        record = {"command": ["harness", *arguments], "pid": child.pid, "state_folder": self._state_folder}
        began = {"started": time.time(), "created": _created(child.pid)}
        write_whole(path / "job.json", json_line(record | began))
        return job

    def newest_first(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""
        return sorted(map(self._described, self._all()), key=lambda job: -job["started"])

    def status(self, job: str) -> dict[str, Any]:
        """See docs/schemas/job.json.

        Raises:
            BadInput: there is no such job.
        """
        return self._described(self._path(job))

    def stop(self, job: str) -> dict[str, Any]:
        """Sends Ctrl-C to a running job."""
        path = self._path(job)
        if not self._ended(path):
            os.kill(_record(path)["pid"], signal.SIGINT)
        return self._described(path)

    def forget(self, job: str) -> None:
        """Removes a job that has ended."""
        shutil.rmtree(self._path(job), ignore_errors=True)

    def _path(self, job: str) -> Path:
        known = [path.name for path in self._all()]
        if job not in known:
            raise BadInput(f"unknown job {job}{did_you_mean(job, known)}")
        return self._folder / job

    def _all(self) -> list[Path]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError, ValueError, KeyError):
                    if re.fullmatch("[0-9a-f]{8}", path.name) and _record(path)["state_folder"] == self._state_folder:
                        found.append(path)
        return found

    def _ended(self, path: Path) -> bool:
        child = self._children.get(path.name)
        if child is not None:
            return child.poll() is not None
        record = _record(path)
        return record["created"] is None or _created(record["pid"]) != record["created"]

    def _described(self, path: Path) -> dict[str, Any]:
        ended, record = self._ended(path), _record(path)
        return {
            "job": path.name,
            "command": record["command"],
            "state": "ended" if ended else "running",
            "started": record["started"],
            "log": _last_lines(path / "log"),
            "answer": _answer(path / "answer") if ended else None,
        }


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((path / "job.json").read_text(encoding="utf-8"))
    return record


def _created(pid: int) -> float | None:
    """When a process was started: another may have its number later. None if it has ended."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _last_lines(path: Path) -> list[str]:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [visible(line)[:500] for line in lines if line.strip()][-LINES:]


def _answer(path: Path) -> dict[str, Any]:
    """The JSON object on the last line of what a command printed, or an error if it was killed before."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    with contextlib.suppress(ValueError, IndexError):
        found = json.loads(lines[-1])
        if isinstance(found, dict):
            return found
    return {"error": "the command ended without an answer; its log says more", "hint": ""}
