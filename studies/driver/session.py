"""What `train`, `study` and `extend` share: a warm executor, a checked experiment, tracking, and starting a run.

This is where a study is assembled: faster replacements for parts of Optuna and MLflow are chosen and passed in here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.errors import StorageFailed, WorkFailed, disk_is_full, in_one_line, is_transient
from studies.common.locks import Lease
from studies.common.plain import acceleration
from studies.common.state_folder import StateFolder
from studies.common.trust import is_own, make_own, remember
from studies.config.experiment import Experiment
from studies.config.parameters import flat_parameters
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.driver.loop import TrialLoop
from studies.driver.packing import let_pack
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
    study_name: str | None = None
    storage: str | None = None
    trust: bool = False  # follow what a state folder from elsewhere names: classes, folders, pickles
    tracker: Callable[[], Tracker] | None = None  # factory of a tracker that replaces MLflow's; see docs/extending.md


class Session:
    """The shared state of a command: warm executor, checked experiment, open tracking; starts runs."""

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
        self.provenance = Provenance.collect(options.argv, experiment.path)
        self._parameters: dict[str, Any] = flat_parameters(experiment.sections)  # until the preflight check
        self._lease: Lease | None = None

    def check(self, metric: str | None, extremes: dict[str, list[Any]]) -> None:
        """Runs the preflight check and collects all parameters of the experiment, defaults included.

        Raises:
            ValueError: the experiment is invalid; in one line.
            WorkFailed: the user's code raised; the traceback is shown.
        """
        self.display.phase("importing torch and Lightning, then the preflight check on one batch")
        payload = {
            "experiment": dump_yaml(self.experiment.sections),
            "seed": self.experiment.seed,
            "threads": self.executor.threads,
            "metric": metric,
            "direction": self.experiment.search.direction if self.experiment.search else "maximize",
            "search_path": self.experiment.search_path,
            "extremes": extremes,
        }
        try:
            report = self.executor.call("studies.trial.preflight:preflight", payload, self.display.refresh)
        except RuntimeError as error:
            raise WorkFailed(f"the preflight check of {self.experiment.name} crashed: {error}") from error
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
        if self.experiment.search is not None and report["metric"] is not None:
            self.experiment.search.metric = report["metric"]
        self._parameters = report["parameters"]
        self.executor.gpus = report["gpus"]
        if self.options.pack > 1:
            measure = self.acceleration.PACKING_GAIN if self.acceleration else None
            let_pack(self.executor, measure, self.display, {**payload, "pack": self.options.pack}, list(extremes))

    def connect(self) -> str:
        """Opens MLflow and returns the id of the experiment there; creates both if missing."""
        self.display.phase("opening MLflow")
        make_own(self.state_folder.folder)
        parts = self.acceleration.for_tracking() if self.acceleration else {}
        self.tracking.connect(
            self.state_folder.tracking_uri,
            None if self.state_folder.is_remote else self.state_folder.artifacts,
            **parts,
        )
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
        """Opens an MLflow run with its parameters and provenance; returns its id and its trial folder.

        Args:
            sections: the experiment's sections, for config.yaml.
            params: the sampled parameters.
            searched: parameters left out of a study's own run, which charts would otherwise show as a trial.
            adopted: a run that a driver opened before it died, possibly right after opening it.
        """
        tags = {**self.provenance.tags, "harness.experiment": self.experiment.name, **tags}
        tags["harness.accelerated"] = "yes" if self.acceleration and self.options.executor == "local" else "no"
        if adopted is None:
            all_params = self.parameters(params, seed, searched)
            run_id = self.tracking.first.start(experiment_id, name, all_params, tags)
        else:
            run_id = adopted
            self.tracking.now.reopen(run_id)
            self.put_parameters(run_id, params, seed, searched)
        folder = self.state_folder.trial_folder(run_id)
        self.write_config(run_id, folder / "artifacts", {**sections, "seed": seed})
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

    def write_config(self, run_id: str, folder: Path, config: dict[str, Any]) -> None:
        """Logs config.yaml and the provenance as artifacts; not the whole folder, since the trial writes to it too."""
        self.provenance.write(folder / PROVENANCE)
        (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
        self.tracking.soon.log_files(run_id, folder / PROVENANCE, PROVENANCE)
        self.tracking.soon.log_files(run_id, folder / "config.yaml")

    def take_lease(self, study: str) -> None:
        """Makes this process the only driver of a study, until everything about it is in MLflow.

        Raises:
            ValueError: another process drives it; the message names that process.
        """
        lease = Lease(self.state_folder.lease(study))
        lease.take()
        self._lease = lease

    def release_lease(self) -> None:
        if self._lease is not None:
            self._lease.release()

    @property
    def trusts(self) -> bool:
        """Whether specifications and checkpoints in the state folder may run code."""
        return self.options.trust or is_own(self.state_folder.folder)

    def loop(self, deadline: float | None = None) -> TrialLoop:
        return TrialLoop(self.executor, self.tracking, self.display, deadline, self.options.trial_timeout)

    def close(self) -> None:
        """Waits until MLflow has stored everything, as far as that is still possible."""
        self.executor.close()
        self.tracking.meanwhile = self.display.refresh
        self.tracking.close()


def is_live(options: Options) -> bool | None:
    """Plain lines for the inline executor, whose debugger needs the terminal; else whatever the terminal supports."""
    return False if options.executor == "inline" else None


@contextlib.contextmanager
def opened(experiment: Experiment, options: Options, display: Display) -> Iterator[Session]:
    session = Session(experiment, options, display)
    try:
        yield session
        session.close()
    except BaseException as error:
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
