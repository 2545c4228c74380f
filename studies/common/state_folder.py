"""The state folder: ./mlruns, or HARNESS_HOME. Its paths, and a check of its contents."""

from __future__ import annotations

import base64
import http.client
import os
import re
import sqlite3
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from studies.common.credentials import PASSWORD, USER, tracking_uri
from studies.common.sqlite_files import looked_into, sqlite_url

TRIALS = "trials"


def is_run_id(text: str) -> bool:
    """Whether a text may be a run's id, which names its folder: a path never is."""
    return re.fullmatch(r"[0-9A-Za-z_-]{1,64}", text) is not None


@dataclass(frozen=True)
class StateFolder:
    """The state folder and the two databases, which may also be servers.

    Attributes:
        folder: holds mlflow.db, optuna.db, trials/RUN/ and studies/NAME.lease.
        tracking_uri: MLflow's: MLFLOW_TRACKING_URI without user and password, or the SQLite file in the folder.
        storage: Optuna's: --storage, or the SQLite file in the folder.
    """

    folder: Path
    tracking_uri: str
    storage: str

    @classmethod
    def find(cls, storage: str | None = None) -> StateFolder:
        folder = Path(os.environ.get("HARNESS_HOME") or "mlruns").resolve()
        uri = tracking_uri() or sqlite_url(folder / "mlflow.db")
        return cls(folder, uri, storage or sqlite_url(folder / "optuna.db"))

    @property
    def artifacts(self) -> Path | None:
        """Where MLflow keeps the artifacts of new experiments: each trial's in its own folder, trials/RUN/artifacts.

        None if MLflow is a server, which decides itself.
        """
        return None if self.is_remote else self.folder / TRIALS

    @property
    def is_remote(self) -> bool:
        """Whether MLflow is a server rather than a local database."""
        return self.tracking_uri.startswith(("http://", "https://"))

    def trial_folder(self, run_id: str) -> Path:
        """The folder of a trial, inside the state folder whatever a database has for a run id.

        Raises:
            ValueError: it is no run id.
        """
        if not is_run_id(run_id):
            raise ValueError(f"{run_id[:80]!r} is no run id")
        return self.folder / TRIALS / run_id

    def run_folder(self, prefix: str) -> Path:
        """The folder of the only run whose id begins with some hexadecimal digits.

        Raises:
            ValueError: there is no such run here, or there are several.
        """
        found = self.run_folder_or_none(prefix)
        if found is None:
            raise ValueError(f"unknown run {prefix}: `harness runs` lists them")
        return found

    def run_folder_or_none(self, prefix: str) -> Path | None:
        """The same, or None if there is no such run here: it may be on a server.

        Raises:
            ValueError: there are several.
        """
        found = sorted(self.folder.glob(f"{TRIALS}/{prefix}*")) if re.fullmatch(r"[0-9a-f]{1,64}", prefix) else []
        if len(found) > 1 and found[0].name != prefix:
            raise ValueError(f"{len(found)} runs begin with {prefix}: give a longer prefix")
        return found[0] if found else None

    def lease(self, study: str) -> Path:
        """The lease file of a study's driver, inside the state folder whatever a database has for a name."""
        return self.folder / "studies" / f"{study.replace('/', '_')}.lease"

    def check(self, databases: bool = True) -> None:
        """Checks that state can be stored here, without creating anything.

        Args:
            databases: also check the SQLite files.

        Raises:
            ValueError: in one line: the folder cannot be written, or holds another tool's or an older layout,
                or the tracking server does not answer.
        """
        ancestor = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not ancestor.is_dir() or not os.access(ancestor, os.W_OK):
            raise ValueError(f"state folder {self.folder} cannot be written (set HARNESS_HOME to use another)")
        old = next(self.folder.glob("*/meta.yaml"), None) if self.folder.is_dir() else None
        if old is not None:
            raise ValueError(
                f"state folder {self.folder} holds MLflow's old file store ({old.parent.name}/meta.yaml): "
                "move it away or set HARNESS_HOME to another folder"
            )
        for name, table in (("mlflow.db", "alembic_version"), ("optuna.db", "studies")) if databases else ():
            _check_database(self.folder / name, table)
        if self.is_remote:
            _check_server(self.tracking_uri)
        elif not self.tracking_uri.startswith(("sqlite:", "sqlite+", "postgresql", "mysql", "mssql")):
            raise ValueError(
                "MLFLOW_TRACKING_URI must be http(s)://..., sqlite:///... or another database's URL, "
                f"but got {self.tracking_uri}"
            )


def _check_database(path: Path, table: str) -> None:
    """Checks for the table that the library always creates; a missing or empty file will be created."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with looked_into(path) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} is not a database ({error}): move it away or restore it") from error
    if table not in tables:
        raise ValueError(f"{path} is another program's database (it has no table {table}): move it away")


def _check_server(uri: str) -> None:
    request = urllib.request.Request(uri.rstrip("/") + "/health")
    user, token = os.environ.get(USER), os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        pair = f"{user}:{os.environ.get(PASSWORD, '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    elif token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5):
            pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
            hint = f"check {USER} and {PASSWORD}, or user:password@ in MLFLOW_TRACKING_URI"
            raise ValueError(f"tracking server {uri} refuses this user ({error.code}): {hint}") from error
        reason = getattr(error, "reason", error)
        raise ValueError(f"tracking server {uri} (MLFLOW_TRACKING_URI) cannot be reached: {reason}") from error
