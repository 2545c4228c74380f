"""Events into MLflow, and runs out of it. The only file that imports mlflow.

There is one writer, the driver; metrics go in batches of up to 1000; each row carries its event's own
timestamp, so an event that is sent again after a crash is the same row and is stored once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import logging

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _all_tables_exist, _initialize_tables, _upgrade_db, _verify_schema
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service.utils import _get_store

from studies.artifact_files import local_folder, place
from studies.databases import made_whole, sqlite_path
from studies.journals import keep_journals
from studies.messages import Event, Failed, Finished, Metrics, Params, Resources, Started, Stopped, Tags
from studies.nearest import nearest
from studies.one_transaction import one_transaction
from studies.trouble import StorageFailed, patiently

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs each error that we retry
logging.getLogger("alembic").setLevel(logging.ERROR)

BATCH = 1000  # MLflow's limit of metrics per call
PARAM_LENGTH = 6000  # MLflow's limit of a parameter's value
KEY_LENGTH = 250  # MLflow's limit of a parameter's or tag's name
TAG_LENGTH = 5000  # and of a tag's value
LOGGED = "logged."  # before a name that the user's code chose and that is taken
TOKEN = "harness.token"  # tag: which call opened a run
RANK = "harness.rank"  # tag: a trial's place in its study, from 1
TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens the experiment as model training


@dataclass
class RunInfo:
    """A run as `harness runs` and `compare` show it."""

    run_id: str
    experiment: str
    study: str | None
    name: str
    kind: str
    status: str
    start_time: float
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        names = ("run_id", "experiment", "study", "name", "kind", "status", "params", "metrics")
        return {name: getattr(self, name) for name in names}


Patience = Callable[[Callable[[], Any]], Any]
Result = TypeVar("Result")


class _Patient:
    """An MlflowClient, each call of which is repeated while what stops it passes by itself."""

    def __init__(self, client: MlflowClient, patient: Patience) -> None:
        self._client, self._patient = client, patient

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._patient(lambda: method(*args, **kwargs))


class Tracking:
    """MLflow, through one client.

    Args:
        uri: tracking URI: a database's or a server's.
        artifacts: folder for artifacts of new experiments, or None to leave it to the server.
        patient: does a call again and again while the database is locked or the server away; see trouble.patiently.

    Raises:
        ValueError: in one line, if the database is of another MLflow version or the server refuses.
    """

    def __init__(self, uri: str, artifacts: Path | None, patient: Patience = patiently) -> None:
        self.uri = uri
        self._artifacts = artifacts
        self._patient = patient
        self._pending: dict[str, list[Metric]] = {}
        self._pending_tags: dict[str, dict[str, str]] = {}
        self._folders: dict[str, Path | None] = {}  # of the artifacts of runs that are open
        keep_journals()
        try:
            with made_whole(uri, _make, _template()):
                self._impatient = MlflowClient(tracking_uri=uri)
                self._client: Any = _Patient(self._impatient, patient)
                self._client.search_experiments(max_results=1)
                store = _get_store(uri)
                self._database = store if isinstance(store, SqlAlchemyStore) else None
        except MlflowException as error:
            raise ValueError(f"MLflow at {uri} cannot be used: {' '.join(str(error).split())}") from error

    # -- writing -------------------------------------------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The id of an experiment of that name, made if it is not there."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        location = (self._artifacts / name).as_uri() if self._artifacts else None
        try:
            return self._client.create_experiment(name, artifact_location=location, tags=TAGS)
        except MlflowException:  # somebody else was faster
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        self._client.set_experiment_tag(experiment_id, key, value)

    def start(self, experiment_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Opens a run with its parameters and returns its id."""
        token = uuid.uuid4().hex

        def open_run(client: Any) -> Any:
            info = client.create_run(experiment_id, run_name=name, tags={**tags, TOKEN: token}).info
            _log_params(client, info.run_id, params)
            return info

        info = self._together(open_run)
        run_id = info.run_id
        self._folders[run_id] = local_folder(info.artifact_uri)
        if not sqlite_path(self.uri):  # a server may have made one whose answer got lost before the call was repeated
            for run in self._client.search_runs([experiment_id], f"tags.`{TOKEN}` = '{token}'"):
                if run.info.run_id != run_id:
                    self._client.delete_run(run.info.run_id)
        return str(run_id)

    def _together(self, work: Callable[[Any], Result]) -> Result:
        """Some calls of a client as one transaction; one by one where there is no database or it does not go together.

        Args:
            work: is given the client; may be done again.
        """
        database = self._database
        if database is None:
            return work(self._client)

        def whole() -> Result:
            with one_transaction(database):
                return work(self._impatient)

        try:
            return self._patient(whole)
        except StorageFailed:
            raise
        except Exception:  # a row that is there already, for one: call by call MLflow knows what to do
            return work(self._client)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        _log_params(self._client, run_id, params)

    def find_run(self, tags: Mapping[str, str], experiment_id: str) -> str | None:
        """The newest run of an experiment that carries these tags."""
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self._client.search_runs([experiment_id], where, max_results=1)
        return runs[0].info.run_id if runs else None

    def status(self, run_id: str) -> str:
        return self._client.get_run(run_id).info.status

    def reopen(self, run_id: str) -> None:
        """Sets a run RUNNING again: it goes on."""
        self._client.update_run(run_id, status="RUNNING")

    def log(self, run_id: str, event: Event) -> None:
        """Takes one event of a run; its metrics and its start wait for the next flush."""
        if isinstance(event, Metrics):
            # Lightning says the epoch itself, where it does; logs of earlier versions have it apart.
            values = event.values if event.done is not None else {**event.values, "epoch": event.epoch}
            self._add(run_id, values, event.time, event.step)
        elif isinstance(event, Params):
            self._log_more_params(run_id, event.values)
        elif isinstance(event, Tags):
            self.set_tags(run_id, _free_tags(event.values))
        elif isinstance(event, Resources):
            self._add(run_id, event.values, event.time, event.step)
        elif isinstance(event, Started):
            versions = {f"harness.version.{name}": version for name, version in event.versions.items()}
            self._pending_tags[run_id] = {"harness.host": event.host, "harness.device": event.device, **versions}
        elif isinstance(event, Finished | Stopped):
            # test/... came as metrics already, at their step
            summary = {name: value for name, value in event.summary.items() if not name.startswith("test/")}
            self._add(run_id, summary, event.time, 0)
        elif isinstance(event, Failed):
            self.set_tags(run_id, {"harness.error": event.error[:4000]})
            self._client.log_text(run_id, event.traceback, "traceback.txt")

    def _log_more_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Adds parameters to a run that has some. MLflow keeps the first value and refuses another one."""
        known = self._client.get_run(run_id).data.params
        rows: dict[str, str] = {}
        for key, value in params.items():
            name, text = metric_name(key)[:KEY_LENGTH], param_text(value)
            if known.get(name, text) != text:  # the experiment's own, or one that was logged with another value
                name = f"{LOGGED}{name}"[:KEY_LENGTH]
            if name not in known:
                rows[name] = text
        if rows:
            _log_params(self._client, run_id, rows)

    def _add(self, run_id: str, values: Mapping[str, float], stamp: float, step: int) -> None:
        rows = self._pending.setdefault(run_id, [])
        rows.extend(Metric(metric_name(name), float(value), int(stamp * 1000), step) for name, value in values.items())
        if len(rows) >= BATCH:
            self.flush(run_id)

    def log_metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        self._add(run_id, values, time.time(), step)
        self.flush(run_id)

    def flush(self, run_id: str | None = None) -> None:
        """Writes what waits, of one run or of all."""
        names = [run_id] if run_id is not None else [*{*self._pending, *self._pending_tags}]
        if any(self._pending.get(name) or self._pending_tags.get(name) for name in names):
            self._together(lambda client: self._write(client, names))
        self._forget(names)

    def _write(self, client: Any, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            rows, tags = self._pending.get(run_id, []), self._pending_tags.get(run_id, {})
            for start in range(0, max(len(rows), bool(tags)), BATCH):
                client.log_batch(run_id, metrics=rows[start : start + BATCH], tags=_tags(tags) if start == 0 else ())

    def _forget(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._pending.pop(run_id, None)
            self._pending_tags.pop(run_id, None)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, tags=_tags(tags))

    def rank(self, experiment_id: str, study: str, ranks: Mapping[str, int]) -> None:
        """Tags a study's trials with their ranks (run id -> rank, from 1), where they are not so tagged yet."""
        names = {experiment_id: ""}
        known = {run.run_id: run.tags.get(RANK) for run in self._infos(names, f"tags.`harness.study` = '{study}'")}
        for run_id, rank in ranks.items():
            if known.get(run_id) != str(rank):
                self._client.set_tag(run_id, RANK, str(rank))

    def delete_tag(self, run_id: str, key: str) -> None:
        if key in self._client.get_run(run_id).data.tags:
            self._client.delete_tag(run_id, key)

    def log_files(self, run_id: str, path: Path, to: str | None = None) -> None:
        """Copies a file, or all that a folder holds, to a run's artifacts."""
        if run_id not in self._folders:
            self._folders[run_id] = local_folder(self._client.get_run(run_id).info.artifact_uri)
        folder = self._folders[run_id]
        if folder is not None:
            self._patient(lambda: place(path, folder / to if to else folder))
        elif path.is_dir():
            self._client.log_artifacts(run_id, str(path), to)
        elif path.exists():
            self._client.log_artifact(run_id, str(path), to)

    def log_table(self, run_id: str, columns: dict[str, list[Any]], name: str) -> None:
        """A table that MLflow's UI shows as one."""
        # log_table appends to what is there; the leaderboard is written whole each time.
        self._client.log_text(run_id, json.dumps({"columns": list(columns), "data": _rows(columns)}), name)
        known = json.loads(self._client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        entry = {"path": name, "type": "table"}
        if entry not in known:
            self.set_tags(run_id, {"mlflow.loggedArtifacts": json.dumps([*known, entry])})

    def end(self, run_id: str, status: str, outcome: str | None = None) -> None:
        """Closes a run: FINISHED, FAILED or KILLED; `outcome` says why a KILLED one was."""
        if outcome is not None:
            self._pending_tags.setdefault(run_id, {})["harness.outcome"] = outcome

        def close(client: Any) -> None:
            self._write(client, [run_id])
            client.set_terminated(run_id, status)

        self._together(close)
        self._forget([run_id])
        self._folders.pop(run_id, None)

    # -- reading -------------------------------------------------------------------------------------------

    def running(self, experiment_id: str, study: str) -> list[str]:
        """Trial runs of a study that MLflow believes to be running."""
        where = f"attributes.status = 'RUNNING' and tags.`harness.study` = '{study}' and tags.`harness.kind` = 'trial'"
        return [run.info.run_id for run in self._client.search_runs([experiment_id], where, max_results=1000)]

    def runs(self, experiment: str | None = None, study: str | None = None, limit: int = 1000) -> list[RunInfo]:
        """Runs, newest first.

        Raises:
            ValueError: for an unknown experiment.
        """
        names = {item.experiment_id: item.name for item in self._client.search_experiments()}
        if experiment is not None and experiment not in names.values():
            raise ValueError(f"unknown experiment {experiment}{nearest(experiment, names.values())}")
        chosen = {key: name for key, name in names.items() if experiment in (None, name)}
        return self._infos(chosen, f"tags.`harness.study` = '{study}'" if study else "", limit)

    def _infos(self, names: Mapping[str, str], where: str, limit: int | None = None) -> list[RunInfo]:
        """Runs of experiments (id -> name), newest first, page by page."""
        runs: list[Run] = []
        token = None
        while limit is None or len(runs) < limit:
            size = 1000 if limit is None else min(1000, limit - len(runs))
            page = self._client.search_runs(list(names), where, max_results=size, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                break
        return [_info(run, names[run.info.experiment_id]) for run in runs]

    def run(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            ValueError: if there is none of that id.
        """
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            raise ValueError(f"unknown run {run_id}: `harness runs` lists them") from error
        return _info(run, self._client.get_experiment(run.info.experiment_id).name)

    def experiment_names(self) -> dict[str, str]:
        """Name -> id of all experiments."""
        return {item.name: item.experiment_id for item in self._client.search_experiments()}

    def files(self, run_id: str, folder: str | None = None) -> dict[str, int]:
        """Path -> bytes of all artifacts of a run."""
        found: dict[str, int] = {}
        for item in self._client.list_artifacts(run_id, folder):
            found |= self.files(run_id, item.path) if item.is_dir else {item.path: item.file_size or 0}
        return found

    def fetch(self, run_id: str, path: str, to: Path) -> Path:
        """Copies one artifact into a folder and returns where it lies there."""
        return Path(self._client.download_artifacts(run_id, path, str(to)))

    def view(self, experiment_id: str) -> str:
        """The prepared view of an experiment: what follows the server's address."""
        tags = self._client.get_experiment(experiment_id).tags
        return tags.get("harness.view", f"#/experiments/{experiment_id}/runs?workflowType=machine_learning")

    def tag(self, run_id: str, key: str) -> str | None:
        return self._client.get_run(run_id).data.tags.get(key)

    # -- models --------------------------------------------------------------------------------------------

    def publish_model(
        self,
        run_id: str,
        module: Any,
        example: Any,
        variable: Collection[int],
        name: str,
        requirements: list[str],
        tags: Mapping[str, str],
    ) -> int:
        """Logs a module to a run, registers it as the next version of a model and returns that version.

        It is stored as an exported program (pt2), not as a pickle, with its signature and an input example.
        Needs torch: it is called in a trial process, never in the driver.

        Args:
            example: inputs of two rows.
            variable: dimensions of the inputs whose size may change.
        """
        import mlflow.pytorch
        from mlflow.models import infer_signature
        from mlflow.types import Schema, TensorSpec

        output = module(example).numpy(force=True)
        inputs = example.numpy(force=True)
        # -1 is what MLflow exports as variable, and what it lets pass when the model is served.
        shape = tuple(-1 if dim in variable else size for dim, size in enumerate(inputs.shape))
        signature = infer_signature(inputs, output)
        signature.inputs = Schema([TensorSpec(inputs.dtype, shape)])
        with _global_uri(self.uri), mlflow.start_run(run_id=run_id):
            info = mlflow.pytorch.log_model(
                module,
                name="model",
                registered_model_name=name,
                signature=signature,
                input_example=inputs,
                pip_requirements=requirements,
                await_registration_for=None,
            )
        version = int(info.registered_model_version)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, str(version), key, value)
        return version

    def champion(self, name: str) -> dict[str, str] | None:
        """Tags of the model version that is `name`@champion, or None."""
        try:
            return dict(self._client.get_model_version_by_alias(name, "champion").tags)
        except MlflowException:
            return None

    def run_of_model(self, name: str, alias: str | None, version: str | None) -> str:
        """The run whose checkpoint a registered model was made of.

        Raises:
            ValueError: there is no such model, or it is not of this harness.
        """
        try:
            if alias is not None:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, version)
        except MlflowException as error:
            names = [item.name for item in self._client.search_registered_models()]
            what = f"{name}@{alias}" if alias is not None else f"{name}/{version}"
            raise ValueError(f"there is no registered model models:/{what}{nearest(name, names)}") from error
        if "harness.run_id" not in found.tags:
            raise ValueError(f"model {name} version {found.version} was not registered by harness")
        return str(found.tags["harness.run_id"])

    def version_of(self, name: str, tags: Mapping[str, str]) -> int | None:
        """The newest version of a model that carries all these tags, or None."""
        versions = self._client.search_model_versions(f"name = '{name}'")
        found = [int(item.version) for item in versions if tags.items() <= dict(item.tags).items()]
        return max(found, default=None)

    def crown(self, name: str, version: int) -> None:
        """Makes a version the champion of its model."""
        self._client.set_registered_model_alias(name, "champion", str(version))


def _make(url: str) -> None:
    """Makes MLflow's tables, and nothing in them, in a new database and lets go of it."""
    engine = SqlAlchemyStore._get_or_create_engine(url)
    try:
        _initialize_tables(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(url).dispose()


def _template() -> Path:
    """Where this machine keeps a database with this MLflow's tables: making them takes 4 to 8 s, a copy nothing."""
    cache = Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache" / "harness").expanduser()
    return cache / f"empty-mlflow-{mlflow.__version__}.db"


def open_existing(uri: str) -> None:
    """Sees that a database is one that this version of MLflow understands; raises what it says if not."""
    engine = SqlAlchemyStore._get_or_create_engine(uri)
    try:
        if not _all_tables_exist(engine):
            raise ValueError("some of its tables are missing")
        _verify_schema(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()


def upgrade_database(uri: str) -> None:
    """Brings a database of an older version of MLflow, or one half made, to this version's tables."""
    engine = SqlAlchemyStore._get_or_create_engine(uri)
    try:
        _upgrade_db(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()


@contextlib.contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    """MLflow's global tracking URI, which its flavors use, for a while; it also lies in the environment."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before or "")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    rows = [Param(key, param_text(value)) for key, value in params.items()]
    for start in range(0, len(rows), 100):  # MLflow's limit of parameters per call
        client.log_batch(run_id, params=rows[start : start + 100])


def _tags(tags: Mapping[str, Any]) -> list[RunTag]:
    return [RunTag(key, str(value)) for key, value in tags.items()]


def _free_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that the user's code set, under names that mean nothing to the harness or to MLflow's hierarchy of runs."""
    free: dict[str, str] = {}
    for key, value in tags.items():
        name = metric_name(key)
        if name.startswith(("harness.", "mlflow.")) and name not in ("mlflow.note.content", "mlflow.runName"):
            name = LOGGED + name
        free[name[:KEY_LENGTH]] = value[:TAG_LENGTH]
    return free


def metric_name(name: str) -> str:
    """A metric's name in the letters that MLflow allows, e.g. "val/top@5" -> "val/top_5"."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def param_text(value: Any) -> str:
    """A parameter's value as MLflow stores it: text as it is, everything else as JSON, cut at MLflow's limit."""
    return (value if isinstance(value, str) else json.dumps(value))[:PARAM_LENGTH]


def _rows(columns: Mapping[str, list[Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*columns.values(), strict=True)]


def _info(run: Run, experiment: str) -> RunInfo:
    tags = run.data.tags
    return RunInfo(
        run_id=run.info.run_id,
        experiment=experiment,
        study=tags.get("harness.study"),
        name=run.info.run_name or "",
        kind=tags.get("harness.kind", ""),
        status=run.info.status,
        start_time=run.info.start_time / 1000,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(tags),
    )
