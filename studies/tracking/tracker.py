"""The interface of experiment trackers, implemented for MLflow by client.py.

A custom tracker is a class with these methods, passed as `Options(tracker=...)`; see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from studies.protocol.events import Event
from studies.tracking.run_info import RunInfo


class Writer(Protocol):
    """Writes runs. Calls may be repeated after a failure, and by a driver that resumes."""

    def reopen(self, run_id: str) -> None:
        """Sets a run to RUNNING again when it resumes."""

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Logs those parameters that a run does not have yet."""

    def log(self, run_id: str, event: Event) -> None:
        """Handles one event of a trial; see studies/protocol/events.py."""

    def log_metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        """Logs values of metrics."""

    def flush(self, run_id: str | None = None) -> None:
        """Writes buffered data, of one run or of all."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Deletes a tag of a run, if it exists."""

    def log_files(self, run_id: str, path: Path, to: str | None = None) -> None:
        """Copies a file, or the contents of a folder, to a run's artifacts; ignores a missing path."""

    def log_table(self, run_id: str, columns: dict[str, list[Any]], name: str) -> None:
        """Logs a table as an artifact, replacing an earlier one."""

    def end(self, run_id: str, status: str, outcome: str | None = None) -> None:
        """Closes a run: FINISHED, FAILED or KILLED; `outcome`: why it was KILLED."""

    def rank(self, experiment_id: str, study: str, ranks: Mapping[str, int]) -> None:
        """Tags a study's trials with their ranks: run id -> rank, from 1."""

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        """Sets a tag of an experiment."""

    def restore(self, run_id: str) -> None:
        """Restores a deleted run, if possible."""


class Tracker(Writer, Protocol):
    """A Writer that can also create and read runs."""

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created if missing."""
        ...

    def start(self, experiment_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Opens a run with its parameters and returns its id, a valid folder name of letters, digits, '_' and '-'."""
        ...

    def find_run(self, tags: Mapping[str, str], experiment_id: str) -> str | None:
        """The newest run of an experiment with these tags, or None."""
        ...

    def running(self, experiment_id: str, study: str) -> list[str]:
        """Ids of a study's trial runs that have not been closed."""
        ...

    def run(self, run_id: str) -> RunInfo:
        """One run."""
        ...

    def runs(self, experiment: str | None = None, study: str | None = None, limit: int = 1000) -> list[RunInfo]:
        """Runs, newest first, of all experiments and studies or of one."""
        ...

    def children(self, run_id: str) -> list[RunInfo]:
        """The runs below a run, newest first."""
        ...

    def deleted_runs(self) -> list[RunInfo]:
        """Deleted runs that can be restored."""
        ...

    def files(self, run_id: str, folder: str | None = None) -> dict[str, int]:
        """Path -> size in bytes of a run's artifacts."""
        ...

    def fetch(self, run_id: str, path: str, to: Path) -> Path:
        """Copies one artifact into a folder and returns its path."""
        ...
