"""`harness replay`: trains a run again and says whether it is identical, or where it first parts and why.

The run is never written to, and no other is created: the replay trains in a temporary folder, with the run's code,
configuration, seed and number of threads, through the same executor and the same trial as the run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studies.common.plain import is_plain
from studies.common.short_ids import short_id
from studies.common.state_folder import StateFolder
from studies.console.progress import Display
from studies.driver.loop import TrialLoop
from studies.driver.past_code import OR_HERE, Difference, PastCode, harness_differences, package_differences, past_code
from studies.driver.past_run import experiment_of, find_spec
from studies.driver.provenance import Provenance
from studies.driver.replay_comparison import (
    Comparison,
    compare,
    data_differences,
    last_place,
    setting_differences,
)
from studies.driver.session import PROVENANCE
from studies.driver.trial_source import TrialSource
from studies.executors.by_name import make_executor
from studies.protocol.checkpoint_files import BEST, FOLDER, LAST
from studies.protocol.event_log import NAME, EventReader, is_being_written
from studies.protocol.events import Event, Finished, Report, Started, Stopped
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.queue import TrackingQueue

ORDER = ("code", "data", "package", "harness", "setting")  # the likelier reason first


@dataclass
class Replay:
    """The verdict on a run.

    Attributes:
        comparison: None if the replay was interrupted.
        weights: see studies.trial.weight_difference; empty if the trainings are identical.
        differences: between the run and its replay, the likelier reason first.
        notes: what the replay could not do as the run did, a line each.
        signal: what interrupted it.
    """

    run_id: str
    here: bool
    comparison: Comparison | None
    weights: dict[str, Any] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    signal: int | None = None

    @property
    def is_identical(self) -> bool:
        return self.comparison is not None and self.comparison.parting is None


def replay(name: str, here: bool = False, threads: int = 0, trust: bool = False, quiet: bool = False) -> Replay:
    """Trains a run or trial again, in a temporary folder, and compares the two.

    Args:
        name: a run id or a prefix of it, latest, best:STUDY, or STUDY/NUMBER.
        here: with today's code, not the run's.
        threads: CPU threads; 0: as many as the run had.

    Raises:
        ValueError: in one line: there is no such run, it is being trained, its log is empty, or its code cannot be made
            again.
    """
    began = time.monotonic()
    state_folder = StateFolder.find()
    state_folder.check()
    spec = find_spec(name, state_folder, trust)
    run = short_id(spec.run_id, state_folder)
    log = Path(spec.folder) / NAME
    if is_being_written(log):
        raise ValueError(f"run {run} is being trained: wait for it or stop it")
    then = EventReader(log).read()
    if not any(isinstance(event, Started) for event in then):
        raise ValueError(f"run {run} has nothing to compare with: its training never began")
    title = f"replay {spec.name} {run}"
    executor = make_executor("local", 1, threads or spec.threads, is_plain())
    with (
        Display(title=title, metric=spec.metric, direction=spec.direction, total=1, quiet=quiet) as display,
        tempfile.TemporaryDirectory(prefix="harness-replay-") as scratch,
    ):
        executor.warm()
        display.phase("making the run's code again")
        found = Replay(spec.run_id, here, None)
        code = _code(spec, state_folder, Path(scratch) / "code", here, found, display)
        for line in found.notes:
            display.say(line)
        for difference in found.differences:
            display.say(f"differs     {difference.text}")
        display.phase("importing torch and Lightning, then training")
        again = _first_training(
            replace(
                spec,
                folder=str(Path(scratch) / "run"),
                search_path=code.today if here else code.folders,
                resume=None,
                extends=False,
                trusted=True,
            ),
            then,
            found,
        )
        source = Again(again, then, executor)
        tracking = TrackingQueue(Untracked)
        tracking.connect("", None)
        loop = TrialLoop(executor, tracking, display)
        loop.run(source)
        tracking.close()
        found.signal = loop.signal
        if loop.signal is None:
            now = EventReader(Path(again.folder) / NAME).read()
            found.comparison = compare(then, now)
            found.differences += [Difference("data", text) for text in data_differences(then, now)]
            found.differences += [Difference("setting", text) for text in setting_differences(then, now)]
            found.differences.sort(key=lambda item: ORDER.index(item.kind))
            if not found.is_identical:
                display.phase("comparing the weights")
                found.weights = _weights(Path(spec.folder), Path(again.folder), then, executor, display)
                executor.close()
    found.seconds = time.monotonic() - began
    return found


def _code(
    spec: TrialSpec, state_folder: StateFolder, scratch: Path, here: bool, found: Replay, display: Display
) -> PastCode:
    """The run's code; notes what differs in it and in the packages."""
    provenance, commit = _provenance(spec, state_folder)
    if provenance is None:
        found.notes.append("the run's code and packages were not kept: today's are used")
        return PastCode(spec.search_path, spec.search_path)
    scratch.mkdir()
    try:
        code = past_code(spec, provenance, commit, scratch)
    except ValueError as error:
        if not here:
            raise
        found.notes.append(f"today's code is not compared with the run's: {error}".removesuffix(OR_HERE))
        code = PastCode(spec.search_path, spec.search_path)
    found.notes += code.notes
    if here:
        found.differences += [Difference("code", line) for line in code.changed]
    elif code.changed:
        others = len(code.changed) - 1
        more = f", and in {others} other file{'s' if others > 1 else ''}" if others else ""
        found.notes.append(f"with the run's code, from which today's differs in {code.changed[0]}{more}")
    found.differences += harness_differences(provenance, code)
    kept = provenance / "packages.txt"
    if kept.is_file():
        today = Provenance.collect([], experiment_of(spec).path).packages
        found.differences += package_differences(kept.read_text(encoding="utf-8", errors="replace"), today)
    return code


def _provenance(spec: TrialSpec, state_folder: StateFolder) -> tuple[Path | None, str | None]:
    """The folder with a run's provenance, and its commit by MLflow; a trial's is in its study's run."""
    folder = Path(spec.folder) / "artifacts" / PROVENANCE
    if (folder / "code.json").is_file():
        return folder, None
    from studies.tracking.client import Tracking

    tracking = Tracking(state_folder.tracking_uri, None)
    tags = tracking.run(spec.run_id).tags
    commit = tags.get("mlflow.source.git.commit")
    if "harness.provenance" in tags and "mlflow.parentRunId" in tags:
        parent = state_folder.run_folder(tags["mlflow.parentRunId"])
        folder = parent / "artifacts" / tags["harness.provenance"]
    return (folder, commit) if folder.is_dir() else (None, commit)


def _first_training(spec: TrialSpec, then: Sequence[Event], found: Replay) -> TrialSpec:
    """The training before it was extended: a schedule depends on the number of epochs that were planned."""
    planned = [event.epochs for event in then if isinstance(event, Started)]
    if len(set(planned)) < 2 or planned[0] is None:
        return spec
    found.notes.append(f"the run was extended: its first {planned[0]} epochs are compared")
    trainer = {**spec.experiment["trainer"], "max_epochs": planned[0]}
    return replace(spec, experiment={**spec.experiment, "trainer": trainer})


class Again(TrialSource):
    """The one trial of a replay, which ends where the run ended: pruned at the same value, or interrupted."""

    def __init__(self, spec: TrialSpec, then: Sequence[Event], executor: Any) -> None:
        self._next: TrialSpec | None = spec
        self._run_id, self._executor = spec.run_id, executor
        ending = next((event for event in reversed(then) if isinstance(event, Finished | Stopped)), None)
        pruned = isinstance(ending, Stopped) and ending.why == "pruned"
        self._reports = sum(isinstance(event, Report) for event in then) if pruned else None
        self._last = None if pruned or isinstance(ending, Finished) else last_place(then)
        self._reader = EventReader(Path(spec.folder) / NAME)
        self._seen: list[Event] = []

    def next(self) -> TrialSpec | None:
        spec, self._next = self._next, None
        return spec

    def ended(self, spec: TrialSpec, ending: Any) -> None:
        """The comparison reads the log."""

    def report(self, spec: TrialSpec, count: int, value: float, further: dict[str, float]) -> bool:
        return self._reports is not None and count >= self._reports

    def write(self) -> None:
        """Called every second: stops the replay of an interrupted run where that ended."""
        if self._last is None:
            return
        self._seen += self._reader.read()
        if last_place(self._seen) >= self._last and self._run_id in self._executor.running:
            self._executor.stop(self._run_id, "interrupted")


class Untracked:
    """A tracker that keeps nothing."""

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **options: None


def _weights(
    then_folder: Path, now_folder: Path, then: Sequence[Event], executor: Any, display: Display
) -> dict[str, Any]:
    """By how much the weights differ at the end; empty if the run was stopped elsewhere."""
    for name in (LAST, BEST):
        paths = {"then": str(then_folder / FOLDER / name), "now": str(now_folder / FOLDER / name)}
        if all(Path(path).is_file() for path in paths.values()):
            found: dict[str, Any] = executor.call(
                "studies.trial.weight_difference:largest_difference", paths, display.refresh
            )
            if found:
                return {**found, "checkpoint": name}
    return {}
