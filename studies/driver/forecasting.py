"""`harness forecast`: how long a study will take, measured on its first trials. Creates nothing.

The preflight check is run and timed. Then the trials that the study will draw first are trained for some seconds each,
as many at once as the study will have workers, so that what workers take from each other is part of the measurement. A
trial that ends in that time is known. Of a longer one the rate of its steps is known, and how long its validation,
checkpoint and pictures take is measured by one more that trains on two batches only.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.errors import WorkFailed
from studies.config.experiment import Experiment
from studies.config.search_space import Choice, Range
from studies.config.yaml_io import dump_yaml
from studies.driver.session import Options, Session, display_for, opened, search_parts
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Failed, Finished, Metrics, Started
from studies.protocol.trial_spec import TrialSpec

POINTS = 4  # trials that are measured
WATCHED_SECONDS = 4.0  # of a trial's training
PATIENCE = 5  # times that long, for a trial that logs rarely
BATCHES, BRIEF_EPOCHS = 2, 2  # of the trial whose validation is timed; the first epoch includes what happens once
END_SHARE = 0.5  # of the time until the first trial: ranks, pictures, champion and report at the end of a study
MACHINE = 0.15  # standard deviation of the time of equal work on a machine with other users
CONFIDENCE = 0.8


@dataclass
class Watched:
    """What was seen of a trial.

    Attributes:
        submitted, ended: Unix times in seconds; `ended` is None if it was stopped.
        started: its first event.
        batches: training batches in all, if it was stopped.
        progress: (time, training batches begun, epoch) of its values.
        fit_seconds: of its whole training, if it ended.
    """

    submitted: float
    started: Started | None = None
    batches: int = 0
    ended: float | None = None
    progress: list[tuple[float, int, int]] = field(default_factory=list)
    fit_seconds: float = 0.0


def forecast(experiment: Experiment, options: Options) -> dict[str, Any]:
    """Measures, and returns the forecast.

    Returns:
        seconds; low and high (80% interval); cpu_hours, at most; start_seconds; trial_seconds (mean); measured (number
        of trials) and finished (those that ended while they were measured); pruner: pruning makes it less.

    Raises:
        ValueError: the experiment is invalid, or its training has no end; in one line.
        WorkFailed: the user's code failed.
    """
    if experiment.model is None:
        raise ValueError(f"{experiment.name} is a function, which trains on its own: its time cannot be forecast")
    plan = experiment.search
    space = plan.space if plan is not None and isinstance(plan.space, dict) else {}
    extremes = {name: one.ends for name, one in space.items() if isinstance(one, Range | Choice)}
    began = time.monotonic()
    display = display_for(options, f"forecast {experiment.name}", None, "maximize", 1)
    with display, opened(experiment, options, display) as session, tempfile.TemporaryDirectory() as folder:
        session.check(plan.metric if plan is not None else None, extremes)
        start = time.monotonic() - began
        points = _first_draws(experiment, min(options.trials, max(POINTS, options.workers)), folder)
        display.phase(f"training {len(points)} trials for about {WATCHED_SECONDS:.0f} s each")
        specs = [_spec(session, params, number, folder) for number, params in enumerate(points)]
        seen = list(_watched(session, specs, WATCHED_SECONDS))
        brief = None
        if any(one.ended is None for one in seen):
            display.phase(f"timing one validation, checkpoint and picture after {BATCHES} batches")
            sections = {**experiment.sections, "trainer": _brief(experiment.sections["trainer"])}
            spec = _spec(session, points[0], len(points), folder, sections)
            [brief] = _watched(session, [spec], math.inf)
            for one, spec in zip(seen, specs, strict=True):
                if one.ended is None:
                    one.batches = _batches(session, spec, one)
        threads = session.executor.threads
    trials = [_seconds(one, brief, experiment.name) for one in seen]
    mean = statistics.mean(trials)
    seeds = plan.seeds if plan is not None else 1  # of each trial, if it is not pruned between them
    rounds = seeds * math.ceil(options.trials / options.workers)
    test = 2 * _epoch_seconds(brief) if brief is not None else 0.0
    seconds = start * (1 + END_SHARE) + rounds * mean + test
    apart = _half_width(trials, options.trials)
    return {
        "experiment": experiment.name,
        "trials": options.trials,
        "workers": options.workers,
        "seconds": seconds,
        "low": seconds / (1 + apart),
        "high": seconds * (1 + apart),
        "cpu_hours": (options.trials * seeds * mean * threads + start * (1 + END_SHARE)) / 3600,
        "start_seconds": start,
        "trial_seconds": mean,
        "measured": len(seen),
        "finished": sum(one.ended is not None for one in seen),
        "pruner": plan.pruner if plan is not None else "none",
    }


def _first_draws(experiment: Experiment, count: int, folder: str) -> list[dict[str, Any]]:
    """The parameters of the study's first trials, as if none of them had ended; {} if nothing is searched."""
    plan = experiment.search
    if plan is None or not plan.space:
        return [{}] * min(count, 1)
    from studies.search import Search

    definition = {"space": plan.space_as_written, "metric": plan.metric, "direction": plan.direction}
    definition |= {"seed": experiment.seed, "further": plan.further}
    where = f"sqlite:///{Path(folder, 'draws.db')}"
    search = Search(where, "forecast", definition, plan.space, plan.sampler, "none", None, **search_parts())
    count = min(count, search.points or count)
    return [search.ask().params for _ in range(count)]


def _spec(
    session: Session, params: dict[str, Any], number: int, folder: str, sections: dict[str, Any] | None = None
) -> TrialSpec:
    experiment, plan = session.experiment, session.experiment.search
    from studies.search import derive_seed

    drawn = experiment.with_params(params)
    if sections is not None:
        drawn = {**drawn, "trainer": sections["trainer"]}
    return TrialSpec(
        run_id=f"forecast-{number}",
        experiment=drawn,
        seed=derive_seed(experiment.seed, number, "training"),
        folder=str(Path(folder, str(number))),
        name=experiment.name,
        metric=plan.metric if plan is not None else None,
        direction=plan.direction if plan is not None else "maximize",
        further=plan.further if plan is not None else {},
        search_path=experiment.search_path,
    )


def _brief(trainer: dict[str, Any]) -> dict[str, Any]:
    limits = {
        "max_epochs": BRIEF_EPOCHS,
        "limit_train_batches": BATCHES,
        "max_steps": -1,
        "min_epochs": None,
        "min_steps": None,
    }
    return {**trainer, **limits, "val_check_interval": None, "check_val_every_n_epoch": 1}


def _watched(session: Session, specs: list[TrialSpec], seconds: float) -> Iterator[Watched]:
    """Runs trials, each until it ends or has trained for some seconds, and yields what was seen of each.

    Raises:
        WorkFailed: one failed.
    """
    executor, waiting = session.executor, list(specs)
    seen: dict[str, Watched] = {}
    readers: dict[str, EventReader] = {}
    killed: set[str] = set()
    while waiting or executor.running:
        while waiting and executor.free:
            spec = waiting.pop(0)
            Path(spec.folder, "artifacts").mkdir(parents=True)
            seen[spec.run_id], readers[spec.run_id] = Watched(time.time()), EventReader(Path(spec.folder, NAME))
            executor.submit(spec)
        exited = {message.run_id for message in executor.wait(0.1) if message.kind == "exited"}
        session.display.refresh()
        for run_id in [*seen] if exited else [*executor.running]:
            _take(seen[run_id], readers[run_id])
            if run_id not in killed and run_id not in exited and _is_enough(seen[run_id], seconds):
                killed.add(run_id)
                executor.kill(run_id)
    yield from seen.values()


def _take(one: Watched, reader: EventReader) -> None:
    for event in reader.read():
        if isinstance(event, Started):
            one.started = event
        elif isinstance(event, Metrics):
            one.progress.append((event.time, event.position, event.epoch))
        elif isinstance(event, Failed):
            raise WorkFailed(f"a trial of the forecast failed: {event.error}")
        elif isinstance(event, Finished):
            one.ended, one.fit_seconds = event.time, event.summary.get("fit_seconds", 0.0)


def _is_enough(one: Watched, seconds: float) -> bool:
    if one.started is None or one.ended is not None:
        return False
    trained = time.time() - one.started.time
    epochs, places = {epoch for _, _, epoch in one.progress}, {batch for _, batch, _ in one.progress}
    if len(places) < 3:
        return trained > PATIENCE * seconds
    # Once an epoch has ended, a second whole one is worth waiting for: it tells more than its parts.
    return trained > seconds * (2 if len(epochs) == 2 else 1)


def _seconds(one: Watched, brief: Watched | None, name: str) -> float:
    """How long a trial takes from its start to its end."""
    if one.ended is not None:
        return one.ended - one.submitted
    assert brief is not None and brief.ended is not None and one.started is not None
    epochs = one.started.epochs or 1
    build = one.started.time - one.submitted
    tail = max(0.0, brief.ended - brief.submitted - build - brief.fit_seconds)
    whole = _whole_epochs(one, one.batches / epochs)
    if whole is not None:
        return build + one.batches * whole + tail
    return build + one.batches * _batch_seconds(one, name) + epochs * _epoch_seconds(brief) + tail


def _batches(session: Session, spec: TrialSpec, one: Watched) -> int:
    """The training batches of a whole trial.

    Raises:
        ValueError: its training has no end that is known before.
    """
    payload = {"experiment": dump_yaml(spec.experiment), "seed": spec.seed, "threads": session.executor.threads}
    payload["search_path"] = spec.search_path
    counted = session.executor.call("studies.trial.tuning:count_batches", payload, session.display.refresh)
    if "error" in counted:
        raise WorkFailed(f"the batches of {spec.name} cannot be counted: {counted['error']}")
    assert one.started is not None
    epochs, steps, each = one.started.epochs, one.started.steps, counted["batches"]
    ends = [epochs * each] if epochs is not None and each is not None else []
    ends += [steps * counted["accumulated"]] if steps is not None else []
    if not ends:
        raise ValueError(f"the training of {spec.name} has no end that is known before: give --trainer.max_epochs")
    return int(min(ends))


def _whole_epochs(one: Watched, per_epoch: float) -> float | None:
    """Seconds per batch over whole epochs, validation included, or None if fewer than one and a half were seen."""
    first: dict[int, tuple[float, int]] = {}
    for moment, done, epoch in one.progress:
        first.setdefault(epoch, (moment, done))
    after = [first[epoch] for epoch in sorted(first)[1:]]  # the first epoch includes what happens once
    if len(after) < 2 or after[-1][1] - after[0][1] < per_epoch:
        return None
    return (after[-1][0] - after[0][0]) / (after[-1][1] - after[0][1])


def _batch_seconds(one: Watched, name: str) -> float:
    """Seconds per batch within the epoch of which most was seen."""
    spans = []
    for epoch in {epoch for _, _, epoch in one.progress}:
        points = [(moment, done) for moment, done, its in one.progress if its == epoch]
        by_step = {done: moment for moment, done in reversed(points)}  # the first value at each batch
        if len(by_step) > 1:
            low, high = min(by_step), max(by_step)
            spans.append((high - low, by_step[high] - by_step[low]))
    if spans:
        batches, seconds = max(spans)
        return seconds / batches
    if one.progress and one.started is not None and one.progress[-1][1] > 0:
        moment, done, _ = one.progress[-1]
        return (moment - one.started.time) / done
    raise ValueError(f"nothing of {name} was logged in {WATCHED_SECONDS * PATIENCE:.0f} s: its time cannot be forecast")


def _epoch_seconds(brief: Watched) -> float:
    """Seconds of a validation, a checkpoint and what else an epoch has, by the second epoch of the brief trial."""
    last = {epoch: moment for moment, _, epoch in brief.progress}
    return last[1] - last[0] if {0, 1} <= last.keys() else brief.fit_seconds / BRIEF_EPOCHS


def _half_width(trials: list[float], total: int) -> float:
    """Half of the interval, as a share: what the machine does, and that few of the trials were measured."""
    from scipy import stats  # a second, that the start need not wait for

    machine = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * MACHINE
    count = len(trials)
    if count >= total:
        return machine
    if count < 2:
        return 2 * machine
    error = statistics.stdev(trials) / math.sqrt(count) / statistics.mean(trials)
    return math.hypot(machine, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error)
