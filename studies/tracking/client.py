"""Writes events to MLflow and reads runs from it.

There is one writer, the driver; metrics are sent in batches of up to 1000; each row carries its event's own timestamp,
so an event that is sent again after a crash is the same row and is stored once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import logging

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from studies.common.errors import StorageFailed, in_one_line, retry_transient
from studies.common.sqlite_files import made_whole, sqlite_path
from studies.common.suggestions import did_you_mean
from studies.common.trust import contains, is_own
from studies.protocol.events import DataSet, Event, Failed, Finished, Metrics, Params, Resources, Started, Stopped, Tags
from studies.protocol.metric_names import (
    EXPERIMENT_TAG_LENGTH,
    NAME_LENGTH,
    metric_name,
    param_text,
    same_param,
    short_number,
    stored_number,
    stored_params,
    stored_tags,
    stored_text,
)
from studies.tracking.artifact_folder import local_folder
from studies.tracking.data_sets import data_set_input, data_sets_of
from studies.tracking.database import make, template
from studies.tracking.model_registry import ModelRegistry
from studies.tracking.relocation import relocate
from studies.tracking.run_info import RunInfo

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs every error that we retry
logging.getLogger("alembic").setLevel(logging.ERROR)

BATCH = 1000  # MLflow's limit of metrics per call
LOGGED = "logged."  # prefix of user names that are already in use
PAGE = 1000  # runs per query
MANY = 1_000_000  # runs: practically all
NOW = "harness.now."  # tag, + parameter name: its present value if MLflow keeps an older one
EXPERIMENT_LENGTH = 500  # MLflow's limit of an experiment's name
TOKEN = "harness.token"  # tag: identifies the call that opened a run
RANK = "harness.rank"  # tag: a trial's rank in its study, from 1
RANKED = "harness.ranked"  # tag of a study's run: digest of the ranks that its trials have
EXPERIMENT = "harness.experiment"  # tag of experiments and runs: the experiment's name in the harness
# Tags of MLflow's own that trials may set: description, name, and that charts have a strip of pictures.
FREE_TAGS = ("mlflow.note.content", "mlflow.runName", "mlflow.loggedImages")
TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens the experiment as model training


REFUSED = Path(os.devnull)  # an artifact folder that is not written to
Retry = Callable[[Callable[[], Any]], Any]
Result = TypeVar("Result")


class _RetryingClient:
    """An MlflowClient whose calls are retried while they fail with temporary errors."""

    def __init__(self, client: MlflowClient, retry: Retry) -> None:
        self._client, self._retry = client, retry

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._retry(lambda: method(*args, **kwargs))


class Tracking:
    """MLflow, accessed through one client.

    Args:
        uri: tracking URI of a database or server.
        artifacts: folder for artifacts of new experiments: those of a run are in RUN/artifacts there. None leaves it
            to the server.
        retry: repeats a call while the database is locked or the server unreachable; see errors.retry_transient.
        notice: called with one line for each unexpected change (e.g. made in MLflow's UI) and how it was handled.
        together: context manager that makes a thread's calls to a URI's database one transaction, or None.
        place: puts files into a local artifact folder; None: MLflow copies them.

    Raises:
        ValueError: in one line: the database is of another MLflow version, or the server refuses.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        retry: Retry = retry_transient,
        notice: Callable[[str], None] = lambda text: None,
        together: Callable[[str], AbstractContextManager[None]] | None = None,
        place: Callable[[Path, Path], None] | None = None,
    ) -> None:
        self.uri = uri
        self._one_transaction, self._place = together, place
        self._notice = notice
        self._gone: set[str] = set()  # missing runs that were already reported
        self._artifacts = artifacts
        self._retry = retry
        self._pending: dict[str, list[Metric]] = {}
        self._pending_tags: dict[str, dict[str, str]] = {}
        self._pending_inputs: dict[str, list[DatasetInput]] = {}
        self._folders: dict[str, Path | None] = {}  # run -> local artifact folder, for open runs
        try:
            with made_whole(uri, make, template()):
                for line in relocate(uri):
                    notice(line)
                self._plain_client = MlflowClient(tracking_uri=uri)
                self._client: Any = _RetryingClient(self._plain_client, retry)
                self._client.search_experiments(max_results=1)
        except MlflowException as error:
            raise ValueError(f"MLflow at {uri} cannot be used: {' '.join(str(error).split())}") from error

    @property
    def models(self) -> ModelRegistry:
        """The model registry."""
        return ModelRegistry(self._client, self.uri)

    # -- writing -------------------------------------------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created if missing.

        An experiment that was deleted in MLflow's UI is restored; one that was renamed there is still found.
        """
        name = stored_text(name, EXPERIMENT_LENGTH)
        found = self._client.get_experiment_by_name(name) or self._renamed(name)
        if found is None:
            location = self._artifacts.as_uri() if self._artifacts else None
            try:
                return self._client.create_experiment(name, artifact_location=location, tags={**TAGS, EXPERIMENT: name})
            except MlflowException:  # another process was faster
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        self._restore_experiment(found)
        if found.name != name:
            self._notice(f"MLflow's experiment {name} was renamed to {found.name}; it is continued under that name")
        if EXPERIMENT not in found.tags:
            self._client.set_experiment_tag(found.experiment_id, EXPERIMENT, name)
        return found.experiment_id

    def _renamed(self, name: str) -> Experiment | None:
        """The experiment that was created under this name and has since been renamed, or None."""
        every = self._client.search_experiments(view_type=ViewType.ALL)
        tagged = [item for item in every if item.tags.get(EXPERIMENT) == name]
        if not tagged:  # created by an older version: its runs have the tag
            untagged = {item.experiment_id: item for item in every if EXPERIMENT not in item.tags}
            runs = self._tagged({EXPERIMENT: name}, list(untagged), ViewType.ALL, limit=1)
            tagged = [untagged[run.info.experiment_id] for run in runs]
        return min(tagged, key=lambda item: item.lifecycle_stage != "active", default=None)

    def _restore_experiment(self, experiment: Experiment) -> bool:
        """Restores an experiment if it was deleted, and with it its runs."""
        if experiment.lifecycle_stage == "active":
            return False
        self._client.restore_experiment(experiment.experiment_id)
        self._notice(f"experiment {experiment.name} was deleted in MLflow: it is restored, with its runs")
        return True

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        """Sets a tag of an experiment; skips values longer than MLflow's limit, which would be useless truncated."""
        if len(value) <= EXPERIMENT_TAG_LENGTH:
            self._in_experiment(experiment_id, lambda: self._client.set_experiment_tag(experiment_id, key, value))

    def _in_experiment(self, experiment_id: str, work: Callable[[], Result]) -> Result:
        """Writes to an experiment; restores it if it has been deleted meanwhile."""
        try:
            return work()
        except MlflowException:
            if not self._restore_experiment(self._client.get_experiment(experiment_id)):
                raise
            return work()

    def start(self, experiment_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Opens a run with its parameters and returns its id."""
        token = uuid.uuid4().hex
        own_tags = stored_tags({**tags, TOKEN: token})

        def open_run(client: Any) -> Any:
            info = client.create_run(experiment_id, run_name=stored_text(name, 250), tags=own_tags).info
            _log_params(client, info.run_id, stored_params(params))
            return info

        info = self._in_experiment(experiment_id, lambda: self._together(open_run))
        run_id = info.run_id
        self._folders[run_id] = local_folder(info.artifact_uri)
        if not sqlite_path(self.uri):  # a server may have created one in an earlier attempt whose response was lost
            for run in self._client.search_runs([experiment_id], f"tags.`{TOKEN}` = '{token}'"):
                if run.info.run_id != run_id:
                    self._client.delete_run(run.info.run_id)
        return str(run_id)

    def _on(self, run_id: str, work: Callable[[Any], object]) -> None:
        """Makes calls for one run, whatever was done to it in MLflow's UI.

        A deleted run is restored. If it is permanently gone, or MLflow rejects the data, these remain only in the
        trial's log.

        Args:
            work: called with the client; may be repeated.
        """
        try:
            work(self._client)
        except MlflowException as error:
            if self._is_gone(run_id):
                if run_id not in self._gone:
                    self._gone.add(run_id)
                    self._notice(
                        f"MLflow no longer has run {run_id}: its events stay in its log, "
                        "and `harness doctor --fix` recreates it"
                    )
            elif self._restore(run_id):
                work(self._client)
            elif error.error_code == "INVALID_PARAMETER_VALUE":
                self._notice(f"MLflow rejected events of run {run_id}, which stay in its log: {in_one_line(error)}")
            else:
                raise

    def _is_gone(self, run_id: str) -> bool:
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")
        return False

    def _restore(self, run_id: str) -> bool:
        """Restores a run if it, or its experiment, was deleted; returns whether it was."""
        info = self._client.get_run(run_id).info
        if info.lifecycle_stage == "active":
            return False
        self._restore_experiment(self._client.get_experiment(info.experiment_id))
        self._client.restore_run(run_id)
        self._notice(f"run {info.run_name or run_id} was deleted in MLflow: it is restored")
        return True

    def delete(self, run_id: str) -> None:
        """Moves a run to MLflow's trash, unless it is there."""
        if self._client.get_run(run_id).info.lifecycle_stage == "active":
            self._client.delete_run(run_id)

    def restore(self, run_id: str) -> None:
        """Restores a run from MLflow's trash, if it is there."""
        self._restore(run_id)

    def _together(self, work: Callable[[Any], Result], one_by_one: Callable[[], Result] | None = None) -> Result:
        """Makes several calls in one transaction; one by one if there is no local database or that fails.

        Args:
            work: called with the client; may be repeated.
            one_by_one: the same work outside a transaction; None: `work` with the client.
        """
        one_by_one = one_by_one or (lambda: work(self._client))
        one_transaction = self._one_transaction
        if one_transaction is None or self.uri.startswith(("http://", "https://")):
            return one_by_one()

        def whole() -> Result:
            with one_transaction(self.uri):
                return work(self._plain_client)

        try:
            return self._retry(whole)
        except StorageFailed:
            raise
        except Exception as error:  # e.g. an existing row: MLflow handles that call by call
            if isinstance(error, AttributeError | TypeError):  # written for another version of MLflow
                self._one_transaction = None
                self._notice(f"MLflow is written call by call, which is slower: {in_one_line(error)}")
            return one_by_one()

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Logs the parameters that a run lacks. MLflow cannot change parameters, so a new value becomes a tag."""
        wanted = stored_params(params)

        def log(client: Any) -> None:
            known = client.get_run(run_id).data.params
            _log_params(client, run_id, {key: value for key, value in wanted.items() if key not in known})
            other = {key: value for key, value in wanted.items() if key in known and not same_param(known[key], value)}
            if other:
                client.log_batch(run_id, tags=_tags({f"{NOW}{key}": value for key, value in other.items()}))
                self._notice(
                    f"run {run_id} was started with other values of {', '.join(other)}: MLflow keeps those as "
                    f"parameters, and the present ones are tags {NOW}..."
                )

        self._on(run_id, log)

    def find_run(self, tags: Mapping[str, str], experiment_id: str) -> str | None:
        """The newest run of an experiment with these tags; a deleted one only if there is no other."""
        runs = self._tagged(tags, [experiment_id], ViewType.ACTIVE_ONLY, limit=1)
        runs = runs or self._tagged(tags, [experiment_id], ViewType.DELETED_ONLY, limit=1)
        return runs[0].info.run_id if runs else None

    def _tagged(
        self,
        tags: Mapping[str, str],
        experiment_ids: list[str],
        view: int,
        where: str = "",
        limit: int = 1000,
        order: str = "",
    ) -> list[Run]:
        """Runs with these tags, newest first, even if a value cannot be quoted in MLflow's filters."""
        stored = stored_tags(tags)
        simple = {key: value for key, value in stored.items() if _can_be_quoted(value)}
        conditions = [where] if where else []
        conditions += [f"tags.`{key}` = '{value}'" for key, value in simple.items()]
        size = min(limit, PAGE) if simple == stored else PAGE
        pages = self._pages(experiment_ids, " and ".join(conditions), view, size, order)
        return list(itertools.islice((run for run in pages if stored.items() <= run.data.tags.items()), limit))

    def _pages(
        self, experiment_ids: list[str], where: str, view: int, size: int = PAGE, order: str = ""
    ) -> Iterator[Run]:
        """Runs of experiments, newest first unless ordered otherwise, fetched page by page."""
        token = None
        while experiment_ids:
            page = self._client.search_runs(
                experiment_ids, where, view, max_results=size, order_by=[order] if order else None, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                break

    def status(self, run_id: str) -> str:
        return self._client.get_run(run_id).info.status

    def reopen(self, run_id: str) -> None:
        """Sets a run to RUNNING again when it resumes."""
        self._on(run_id, lambda client: client.update_run(run_id, status="RUNNING"))

    def log(self, run_id: str, event: Event) -> None:
        """Handles one event of a run; metrics, start tags and data sets are buffered until the next flush."""
        if isinstance(event, Metrics):
            # Lightning usually logs the epoch itself; logs of earlier versions have it as a field.
            values = event.values if event.done is not None else {**event.values, "epoch": event.epoch}
            self._add(run_id, values, event.time, event.step)
        elif isinstance(event, Params):
            self._log_more_params(run_id, event.values)
        elif isinstance(event, Tags):
            self.set_tags(run_id, _free_tags(event.values))
        elif isinstance(event, DataSet):
            self._pending_inputs.setdefault(run_id, []).append(data_set_input(event))
        elif isinstance(event, Resources):
            self._add(run_id, event.values, event.time, event.step)
        elif isinstance(event, Started):
            versions = {f"harness.version.{name}": version for name, version in event.versions.items()}
            self._pending_tags[run_id] = {"harness.host": event.host, "harness.device": event.device, **versions}
        elif isinstance(event, Finished | Stopped):
            # test/... was already logged as metrics, at their step
            summary = {name: value for name, value in event.summary.items() if not name.startswith("test/")}
            self._add(run_id, summary, event.time, 0)
        elif isinstance(event, Failed):
            self.set_tags(run_id, {"harness.error": stored_text(event.error, 4000)})
            self._log_text(run_id, event.traceback, "traceback.txt")

    def _log_more_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Adds parameters to a run. MLflow keeps the first value of a parameter and rejects another one."""
        known = self._client.get_run(run_id).data.params
        rows: dict[str, str] = {}
        for key, value in params.items():
            name, text = metric_name(key)[:NAME_LENGTH], param_text(value)
            if known.get(name, text) != text:  # an experiment parameter, or one logged with another value
                name = f"{LOGGED}{name}"[:NAME_LENGTH]
            if name not in known:
                rows[name] = text
        if rows:
            _log_params(self._client, run_id, rows)

    def _add(self, run_id: str, values: Mapping[str, float], stamp: float, step: int) -> None:
        rows, stamp = self._pending.setdefault(run_id, []), max(0, int(stamp * 1000))
        numbers = {metric_name(name): stored_number(value) for name, value in values.items()}
        numbers |= {  # our own: the value itself has all digits
            name: short_number(value)
            for name, value in numbers.items()
            if name.startswith("best/") and value is not None
        }
        rows.extend(Metric(name, value, stamp, step) for name, value in numbers.items() if value is not None)
        if len(rows) >= BATCH:
            self.flush(run_id)

    def log_metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        self._add(run_id, values, time.time(), step)
        self.flush(run_id)

    def flush(self, run_id: str | None = None) -> None:
        """Writes buffered data, of one run or of all."""
        pending = (self._pending, self._pending_tags, self._pending_inputs)
        names = [run_id] if run_id is not None else [*{name for part in pending for name in part}]
        if any(part.get(name) for part in pending for name in names):
            self._together(partial(self._write_all, names), lambda: self._write_each(names))
        self._forget(names)

    def _write_all(self, run_ids: Iterable[str], client: Any) -> None:
        for run_id in run_ids:
            self._write(run_id, client)

    def _write_each(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._on(run_id, partial(self._write, run_id))

    def _write(self, run_id: str, client: Any) -> None:
        rows, tags = self._pending.get(run_id, []), self._pending_tags.get(run_id, {})
        for start in range(0, max(len(rows), bool(tags)), BATCH):
            client.log_batch(run_id, metrics=rows[start : start + BATCH], tags=_tags(tags) if start == 0 else ())
        if run_id in self._pending_inputs:
            client.log_inputs(run_id, self._pending_inputs[run_id])

    def _forget(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._pending.pop(run_id, None)
            self._pending_tags.pop(run_id, None)
            self._pending_inputs.pop(run_id, None)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._on(run_id, lambda client: client.log_batch(run_id, tags=_tags(tags)))

    def rank(self, experiment_id: str, study: str, ranks: Mapping[str, int]) -> None:
        """Tags a study's trials with their ranks (run id -> rank, from 1), unless they already have these tags.

        A tag of the study's run says which ranks were written: reading the runs of 10,000 trials takes ten seconds.
        """
        digest = hashlib.sha256(repr(sorted(ranks.items())).encode()).hexdigest()[:16]
        own = {"harness.kind": "study", "harness.study": study}
        parents = self._tagged(own, [experiment_id], ViewType.ACTIVE_ONLY, limit=1)
        if any(run.data.tags.get(RANKED) == digest for run in parents):
            of_study = {"harness.study": study}
            if not self._tagged(of_study, [experiment_id], ViewType.DELETED_ONLY, limit=1):
                return
        runs = self._tagged({"harness.study": study}, [experiment_id], ViewType.ACTIVE_ONLY, limit=MANY)
        known = {run.info.run_id: run.data.tags.get(RANK) for run in runs}
        for run_id, rank in ranks.items():
            if run_id in known and known[run_id] != str(rank):
                self._client.set_tag(run_id, RANK, str(rank))
        for parent in parents:
            self._client.set_tag(parent.info.run_id, RANKED, digest)
        missing = len(ranks.keys() - known.keys())
        if missing:
            what = "run of a trial is" if missing == 1 else f"runs of {missing} trials are"
            self._notice(
                f"the {what} deleted in MLflow: the study has the results, `harness doctor --fix` restores the runs"
            )

    def delete_tag(self, run_id: str, key: str) -> None:
        def delete(client: Any) -> None:
            if key in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, key)

        self._on(run_id, delete)

    def _log_text(self, run_id: str, text: str, name: str) -> None:
        def log(client: Any) -> None:
            if self._artifact_folder(run_id, None) is not REFUSED:
                client.log_text(run_id, stored_text(text), name)

        self._on(run_id, log)

    def log_files(self, run_id: str, path: Path, to: str | None = None) -> None:
        """Copies a file, or the contents of a folder, to a run's artifacts, unless it is there."""
        self._on(run_id, lambda client: self._log_files(run_id, path, to))

    def _log_files(self, run_id: str, path: Path, to: str | None) -> None:
        folder = self._artifact_folder(run_id, to)
        place = self._place
        if folder is REFUSED or (folder is not None and _is_same(path if path.is_dir() else path.parent, folder)):
            return
        if folder is not None and place is not None:
            self._retry(lambda: place(path, folder))
        elif path.is_dir():
            odd = [item for item in path.rglob("*") if not item.is_file() and not item.is_dir()]
            if odd:
                self._notice(f"the artifacts in {path} are not copied: {odd[0].name} is no file")
            else:
                self._client.log_artifacts(run_id, str(path), to)
        elif path.is_file():
            self._client.log_artifact(run_id, str(path), to)

    def _artifact_folder(self, run_id: str, to: str | None) -> Path | None:
        """Where a run's artifacts go: a local folder, None for MLflow to see to it, or REFUSED."""
        if run_id not in self._folders:
            self._folders[run_id] = local_folder(self._client.get_run(run_id).info.artifact_uri)
        folder = self._folders[run_id]
        if folder is not None and not self._may_write(folder):
            self._notice(f"nothing is written to run {run_id}'s artifacts: {folder} leads out of the state folder")
            return REFUSED
        return folder / to if folder is not None and to else folder

    def _may_write(self, folder: Path) -> bool:
        """Whether a run's artifact folder may be written to: anywhere, but in a state folder from elsewhere.

        There a database may have any address, and links may lead to any file.
        """
        if self._artifacts is None or self._is_own:
            return True
        links = (path for path in folder.rglob("*") if path.is_symlink())
        return contains(self._artifacts.parent, folder) and all(contains(folder, path) for path in links)

    @cached_property
    def _is_own(self) -> bool:
        """Whether the state folder is this user's own, read once: files are logged many times per trial."""
        return self._artifacts is not None and is_own(self._artifacts.parent)

    def log_table(self, run_id: str, columns: dict[str, list[Any]], name: str) -> None:
        """Logs a table for MLflow's UI."""
        # MLflow's log_table appends, but the leaderboard is rewritten each time.
        self._log_text(run_id, json.dumps({"columns": list(columns), "data": _rows(columns)}), name)
        entry = {"path": name, "type": "table"}

        def tag(client: Any) -> None:
            known = _json_list(client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts"))
            if entry not in known:
                client.log_batch(run_id, tags=_tags({"mlflow.loggedArtifacts": json.dumps([*known, entry])}))

        self._on(run_id, tag)

    def end(self, run_id: str, status: str, outcome: str | None = None) -> None:
        """Closes a run: FINISHED, FAILED or KILLED; `outcome`: why it was KILLED."""
        if outcome is not None:
            self._pending_tags.setdefault(run_id, {})["harness.outcome"] = outcome

        def close(client: Any) -> None:
            self._write(run_id, client)
            client.set_terminated(run_id, status)

        self._together(close, lambda: self._on(run_id, close))
        self._forget([run_id])
        self._folders.pop(run_id, None)

    # -- reading -------------------------------------------------------------------------------------------

    def running(self, experiment_id: str, study: str) -> list[str]:
        """Trial runs of a study whose status in MLflow is RUNNING."""
        tags = {"harness.study": study, "harness.kind": "trial"}
        runs = self._tagged(tags, [experiment_id], ViewType.ACTIVE_ONLY, "attributes.status = 'RUNNING'", limit=MANY)
        return [run.info.run_id for run in runs]

    def runs(
        self,
        experiment: str | None = None,
        study: str | None = None,
        limit: int = 1000,
        where: str = "",
        order: str = "",
    ) -> list[RunInfo]:
        """Runs, newest first; of an experiment by its present or original name.

        Args:
            where: only these, in MLflow's language: "metrics.`val/accuracy` > 0.98 and params.seed = '3'".
            order: in MLflow's language: "metrics.`val/accuracy` DESC".

        Raises:
            ValueError: unknown experiment, or MLflow does not understand `where` or `order`.
        """
        names = {item.experiment_id: item.name for item in self._client.search_experiments()}
        if experiment is not None:
            names = {key: name for key, name in names.items() if key == self.experiment_id(experiment)}
        tags = {"harness.study": study} if study else {}
        try:
            runs = self._tagged(tags, list(names), ViewType.ACTIVE_ONLY, where, limit, order)
        except MlflowException as error:
            if not (where or order) or error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise ValueError(f"MLflow does not understand {where or order!r}: {in_one_line(error)}") from error
        return [_info(run, names[run.info.experiment_id]) for run in runs]

    def runs_beginning_with(self, prefix: str, limit: int = 6) -> list[RunInfo]:
        """Runs whose id begins with hexadecimal digits."""
        names = {item.experiment_id: item.name for item in self._client.search_experiments()}
        where = f"attributes.run_id LIKE '{prefix}%'"
        found = self._client.search_runs(list(names), where, ViewType.ACTIVE_ONLY, max_results=limit)
        return [_info(run, names[run.info.experiment_id]) for run in found]

    def children(self, run_id: str) -> list[RunInfo]:
        """The runs below a run, newest first."""
        names = {item.experiment_id: item.name for item in self._client.search_experiments()}
        found = self._tagged({"mlflow.parentRunId": run_id}, list(names), ViewType.ACTIVE_ONLY, limit=1_000_000)
        return [_info(run, names[run.info.experiment_id]) for run in found]

    def deleted_runs(self) -> list[RunInfo]:
        """The harness's runs in MLflow's trash, deleted individually or with their experiment."""
        names = {item.experiment_id: item.name for item in self._client.search_experiments(view_type=ViewType.ALL)}
        runs = self._pages(list(names), "", ViewType.DELETED_ONLY)
        return [_info(run, names[run.info.experiment_id]) for run in runs if "harness.kind" in run.data.tags]

    def experiment_id(self, name: str) -> str:
        """The id of an experiment by its name in MLflow, or else by its original name.

        Raises:
            ValueError: it does not exist, or is deleted.
        """
        every = self._client.search_experiments()
        for item in [*(item for item in every if item.name == name), *every]:
            if name in (item.name, item.tags.get(EXPERIMENT)):
                return str(item.experiment_id)
        if self._client.get_experiment_by_name(name) is not None:
            raise ValueError(f"experiment {name} is deleted in MLflow: the next train or study of it restores it")
        raise ValueError(f"unknown experiment {name}{did_you_mean(name, [item.name for item in every])}")

    def run(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            ValueError: unknown run id.
        """
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            raise ValueError(f"unknown run {run_id}: `harness runs` lists them") from error
        return _info(run, self._client.get_experiment(run.info.experiment_id).name)

    def files(self, run_id: str, folder: str | None = None) -> dict[str, int]:
        """Path -> size in bytes of all artifacts of a run."""
        found: dict[str, int] = {}
        for item in self._client.list_artifacts(run_id, folder):
            found |= self.files(run_id, item.path) if item.is_dir else {item.path: item.file_size or 0}
        return found

    def fetch(self, run_id: str, path: str, to: Path) -> Path:
        """Copies one artifact into a folder and returns its path."""
        return Path(self._client.download_artifacts(run_id, path, str(to)))

    def view(self, experiment_id: str) -> str:
        """The URL path of an experiment's prepared view."""
        tags = self._client.get_experiment(experiment_id).tags
        return tags.get("harness.view", f"#/experiments/{experiment_id}/runs?workflowType=machine_learning")

    def tag(self, run_id: str, key: str) -> str | None:
        return self._client.get_run(run_id).data.tags.get(key)


def _log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    rows = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(rows), 100):  # MLflow's limit on parameters per call
        client.log_batch(run_id, params=rows[start : start + 100])


def _tags(tags: Mapping[str, Any]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in stored_tags(tags).items()]


def _free_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags set by user code, renamed if they would have a meaning for the harness or MLflow's run hierarchy."""
    free: dict[str, str] = {}
    for key, value in tags.items():
        name = metric_name(key)
        if name.startswith(("harness.", "mlflow.")) and name not in FREE_TAGS:
            name = LOGGED + name
        free[name[:NAME_LENGTH]] = value
    return free


def _is_same(folder: Path, other: Path) -> bool:
    """Whether both are the same folder, even by different paths."""
    try:
        return folder == other or folder.samefile(other)
    except OSError:  # one of them does not exist
        return False


def _can_be_quoted(value: str) -> bool:
    """Whether a text can be single-quoted in MLflow's filters, which have no escapes."""
    return not set(value) & set("'\"`\\%") and value == stored_text(value)


def _json_list(text: str | None) -> list[Any]:
    """Parses a list from a tag, which may have been edited by hand."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _rows(columns: Mapping[str, list[Any]]) -> list[list[Any]]:
    return [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]


def _cell(value: Any) -> Any:
    """A table cell: NaN and infinities are replaced, since MLflow's UI only reads strict JSON."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


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
        end_time=run.info.end_time / 1000 if run.info.end_time else None,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(tags),
        artifact_uri=run.info.artifact_uri or "",
        data=data_sets_of(run.inputs.dataset_inputs if run.inputs else ()),
    )
