"""What `train`, `study` and `extend` share: a warm executor, a checked experiment, tracking, and starting a run.

This is where a study is assembled: faster replacements for parts of Optuna and MLflow are chosen and passed in here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from studies.common.atomic_files import write_whole
from studies.common.errors import StorageFailed, WorkFailed, disk_is_full, in_one_line, is_transient
from studies.common.locks import Lease
from studies.common.plain import acceleration
from studies.common.state_folder import StateFolder
from studies.common.trust import is_own, make_own, remember
from studies.config.experiment import NAMED, Experiment
from studies.config.parameters import flat_parameters
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.driver.data import Data
from studies.driver.loop import TrialLoop
from studies.driver.packing import let_pack
from studies.driver.preflight_call import ask_preflight, preflight_payload
from studies.driver.provenance import Provenance
from studies.executors.by_name import make_executor
from studies.protocol.metric_names import cleaned_names, colliding_names
from studies.tracking.queue import TrackingQueue
from studies.tracking.tracker import Tracker

PROVENANCE = "provenance"  # folder of a run's artifacts


@dataclass
class Result:
    """Result of a command. `status`: finished, failed, interrupted, timeout. `signal`: what interrupted it."""

    status: str
    wall_seconds: float = 0.0
    signal: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Options:
    """How to run an experiment. See `harness study --help`."""

    argv: list[str]
    workers: int = 1
    threads: int = 0  # per trial; 0 divides the cores among the workers
    pack: int = 1  # trials that each worker may train as one model
    executor: str | dict[str, Any] = "local"  # a name, or {class_path, init_args} of an Executor
    test: bool = True
    trials: int = 1
    timeout: float | None = None
    trial_timeout: float | None = None
    max_failures: int = 10
    retry_failed: bool = False
    enqueue: list[dict[str, Any]] = field(default_factory=list)  # parameters of trials to run first
    from_study: str | None = None  # a study whose results the sampler learns from
    study_name: str | None = None
    storage: str | None = None
    name: str | None = None  # of the run in MLflow
    tags: dict[str, str] = field(default_factory=dict)  # of the run, and of a study's trials
    quiet: bool = False  # show warnings and errors alone
    trust: bool = False  # follow what a state folder from elsewhere names: classes, folders, pickles
    tracker: Callable[[], Tracker] | None = None  # factory of a tracker that replaces MLflow's; see docs/extending.md


class Session:
    """The shared state of a command: warm executor, checked experiment, open tracking; starts runs."""

    logged: Sequence[str] = ()  # names of the metrics that trials log, once the preflight check has seen them

    def __init__(self, experiment: Experiment, options: Options, display: Display) -> None:
        self.experiment = experiment
        self.options = options
        self.display = display
        self.state_folder = StateFolder.find(options.storage)
        self.state_folder.check()
        if options.trust and self.state_folder.folder.exists():
            remember(self.state_folder.folder)
        self.acceleration = acceleration()
        plain = self.acceleration is None
        self.executor = make_executor(options.executor, options.workers, options.threads, plain)
        self.executor.warm()
        self.tracking = TrackingQueue(options.tracker)
        self.tracking.tell = display.say
        self.provenance = Provenance.collect(options.argv, experiment.path, experiment.sections, experiment.search_path)
        self._parameters: dict[str, Any] = flat_parameters(experiment.sections)  # until the preflight check
        self.data = Data()
        self._lease: Lease | None = None
        self.ended: str | None = None  # how a study ended, as in Result

    def check(self, metric: str | None, extremes: dict[str, list[Any]]) -> None:
        """Runs the preflight check and collects all parameters of the experiment, defaults included.

        Raises:
            ValueError: the experiment is invalid; in one line.
            WorkFailed: the user's code raised; the traceback is shown.
        """
        self.display.phase("importing torch and Lightning, then the preflight check on one batch")
        payload = self._payload(metric, extremes)
        report = self._preflight("preflight", payload)
        if "error" in report:
            if "traceback" in report and not report.get("bad_input"):
                self.display.say(report["traceback"])
                raise WorkFailed(f"the preflight check of {self.experiment.name} failed: {report['error']}")
            raise ValueError(report["error"])
        for note in report["notes"]:
            self.display.say(note)
        for name, stored in cleaned_names(report["metrics"]).items():
            self.display.say(f"MLflow shows the metric {name!r} as {stored!r}")
        for stored, names in colliding_names(report["metrics"]).items():
            self.display.say(f"MLflow shows the metrics {', '.join(map(repr, names))} as one: {stored!r}")
        self._use_data(report["data"])
        if self.experiment.search is not None and report["metric"] is not None:
            self.experiment.search.metric, self.experiment.search.further = report["metric"], report.get("further", {})
        self._parameters, self.logged = report["parameters"], report["metrics"]
        self.executor.gpus = report["gpus"]
        if self.options.pack > 1:
            measure = self.acceleration.PACKING_GAIN if self.acceleration else None
            let_pack(self.executor, measure, self.display, {**payload, "pack": self.options.pack}, list(extremes))

    def look_at_data(self) -> None:
        """Finds out what the data are, of an experiment that is not checked again."""
        self.display.phase("importing torch and Lightning, then looking at the data")
        report = self._preflight("data_of", self._payload(None, {}))
        if "error" in report:  # its trials will say the same
            self.display.say(f"the data could not be looked at: {report['error']}")
        else:
            self._use_data(report["data"])

    def _payload(self, metric: str | None, extremes: dict[str, list[Any]]) -> dict[str, Any]:
        folder = self.state_folder.folder
        return preflight_payload(self.experiment, self.executor.threads, metric, extremes, folder)

    def _preflight(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        return ask_preflight(function, self.experiment, payload, self.executor, self.display.refresh)

    def _use_data(self, found: dict[str, Any]) -> None:
        self.data = Data(**found)
        self.data.warn(self.display.say)

    def connect(self) -> str:
        """Opens MLflow and returns the id of the experiment there; creates both if missing."""
        self.display.phase("opening MLflow")
        make_own(self.state_folder.folder)
        parts = self.acceleration.for_tracking() if self.acceleration else {}
        self.tracking.connect(self.state_folder.tracking_uri, self.state_folder.artifacts, **parts)
        return self.tracking.now.experiment(self.experiment.name)

    def start_run(
        self,
        experiment_id: str,
        name: str,
        sections: dict[str, Any],
        seed: int,
        tags: dict[str, str],
        params: Mapping[str, Any],
        searched: Collection[str] = (),
        adopted: str | None = None,
    ) -> tuple[str, Path]:
        """Opens an MLflow run with its parameters and config.yaml; returns its id and its trial folder.

        Args:
            sections: the experiment's sections, for config.yaml.
            params: the sampled parameters.
            searched: parameters left out of a study's own run, which charts would otherwise show as a trial.
            adopted: a run that a driver opened before it died, possibly right after opening it.
        """
        tags = {**self.provenance.tags, "harness.experiment": self.experiment.name, **tags}
        accelerates = self.acceleration is not None and getattr(self.executor, "accelerates", False)
        tags["harness.accelerated"] = "yes" if accelerates else "no"
        if adopted is None:
            all_params = self.parameters(params, seed, searched)
            run_id = self.tracking.first.start(experiment_id, name, all_params, tags)
        else:
            run_id = adopted
            self.tracking.now.reopen(run_id)
            self.put_parameters(run_id, params, seed, searched)
        folder = self.state_folder.trial_folder(run_id)
        self.write_config(run_id, {**sections, "seed": seed})
        return run_id, folder

    def put_parameters(self, run_id: str, params: Mapping[str, Any], seed: int, searched: Collection[str] = ()) -> None:
        """Logs a run's parameters, again if a driver may have died before doing so."""
        self.tracking.soon.log_params(run_id, self.parameters(params, seed, searched))

    def parameters(self, params: Mapping[str, Any], seed: int, searched: Collection[str] = ()) -> dict[str, Any]:
        """All of a run's parameters by dotted name: the experiment's, overridden by the sampled ones."""
        changed = {name for name in params if name not in self._parameters or self._parameters[name] != params[name]}
        inner = tuple(f"{name}." for name in changed)  # arguments of a class that was replaced
        known = {name: value for name, value in self._parameters.items() if not (inner and name.startswith(inner))}
        found = {**known, **params, "seed": seed}
        return {name: value for name, value in found.items() if name not in searched}

    def write_config(self, run_id: str, config: dict[str, Any]) -> None:
        """Logs config.yaml; not the whole folder, since the trial writes to it too."""
        path = self.state_folder.trial_folder(run_id) / "artifacts" / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{NAMED}{self.experiment.name}\n{dump_yaml(config)}")
        self.tracking.soon.log_files(run_id, path)

    def write_provenance(self, run_id: str, name: str = PROVENANCE) -> None:
        """Logs the provenance, in a folder of that name among the artifacts."""
        folder = self.state_folder.trial_folder(run_id) / "artifacts" / name
        self.provenance.write(folder)
        self.tracking.soon.log_files(run_id, folder, name)

    @property
    def provenance_folder(self) -> str:
        """The folder of this start's provenance in a run that has those of several."""
        return f"{PROVENANCE}/{self.provenance.digest}"

    def take_lease(self, study: str) -> None:
        """Makes this process the only driver of a study, until everything about it is in MLflow.

        Raises:
            ValueError: another process drives it; the message names that process.
        """
        lease = Lease(self.state_folder.lease(study))
        lease.take()
        self._lease = lease

    def note(self, **fields: Any) -> None:
        """Tells those who watch the study (`harness watch`) about this driver; see studies.driver.watch."""
        if self._lease is not None:
            self._lease.note(**fields)

    def release_lease(self) -> None:
        if self._lease is not None:
            if self.ended is not None:
                self._lease.note(ended=self.ended)
            self._lease.release()

    @cached_property
    def trusts(self) -> bool:
        """Whether specifications and checkpoints in the state folder may run code; read once, not for each trial."""
        return self.options.trust or is_own(self.state_folder.folder)

    def loop(self, deadline: float | None = None) -> TrialLoop:
        return TrialLoop(self.executor, self.tracking, self.display, deadline, self.options.trial_timeout)

    def close(self) -> None:
        """Waits until MLflow has stored everything, as far as that is still possible."""
        self.executor.close()
        self.tracking.meanwhile = self.display.refresh
        self.tracking.close()


def display_for(
    options: Options, title: str, metric: str | None, direction: str, total: int, unit: str = "trial"
) -> Display:
    """A command's display: plain lines for the inline executor, whose debugger needs the terminal."""
    live = False if options.executor == "inline" else None
    quiet = options.quiet
    return Display(title=title, metric=metric, direction=direction, total=total, live=live, quiet=quiet, unit=unit)


@contextlib.contextmanager
def opened(experiment: Experiment, options: Options, display: Display) -> Iterator[Session]:
    session = Session(experiment, options, display)
    try:
        yield session
        session.close()
    except BaseException as error:
        session.ended = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        session.executor.close()
        session.tracking.hurry()
        with contextlib.suppress(Exception):  # the original error is the one to show
            session.tracking.close()
        if isinstance(error, Exception) and not isinstance(error, StorageFailed | ValueError):
            if disk_is_full(error):
                raise StorageFailed(f"no space left on the disk: {in_one_line(error)}") from error
            if is_transient(error):
                raise StorageFailed(in_one_line(error)) from error
        raise
    finally:
        session.release_lease()


def search_parts() -> dict[str, Any]:
    """Further arguments of a `Search` outside a session: the faster parts, if there are any."""
    fast = acceleration()
    return fast.for_search() if fast is not None else {}
