"""`harness train --seeds`: one configuration on several seeds, below one parent run that shows their mean."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studies.common.atomic_files import write_whole
from studies.common.regular_files import read_text
from studies.common.state_folder import StateFolder
from studies.common.trust import check_own, remember
from studies.config.experiment import Experiment, load
from studies.config.search_plan import SearchPlan
from studies.driver.replicates import Configuration, Replicates, goes_on
from studies.driver.session import Options, Result, Session, display_for, opened
from studies.driver.trial_source import TrialSource
from studies.protocol.events import Event
from studies.protocol.trial_spec import TrialSpec
from studies.statistics.intervals import Summary, curve_with_band, summarize
from studies.tracking.trial_log import Ending
from studies.tracking.ui_view import run_page

FEWEST = 3  # seeds before --until may end a training
PLAN = "seeds.json"  # in the parent's folder: what `harness resume` needs besides config.yaml
RESOURCES = "system/"


@dataclass(frozen=True)
class Seeds:
    """Which seeds are trained.

    Attributes:
        seeds: at least two different ones, in order.
        until: end once the 95% interval of the metric's mean is narrower than this on either side; None: train all.
    """

    seeds: tuple[int, ...]
    until: float | None = None


class SeedsSource(TrialSource):
    """The replicates of one configuration."""

    def __init__(self, replicates: Replicates, configuration: Configuration, plan: Seeds) -> None:
        self._replicates, self._configuration, self._plan = replicates, configuration, plan
        self._left = list(plan.seeds)
        self.ended_as: dict[int, tuple[TrialSpec, Ending]] = {}  # seed -> its run

    def next(self) -> TrialSpec | None:
        if not self._left or self.is_narrow:
            return None
        return self._replicates.spec(self._configuration, self._left.pop(0))

    def may_resume(self, spec: TrialSpec, ending: Event) -> bool:
        return goes_on(ending)

    def ended(self, spec: TrialSpec, ending: Ending) -> Ending:
        self.ended_as[spec.seed] = (spec, ending)
        if self.is_narrow and self._left:
            display = self._replicates.session.display
            display.inform(f"the interval is narrow enough after {len(self.ended_as)} seeds (--until)")
            display.total = len(self._plan.seeds) - len(self._left)
        return ending

    @property
    def is_narrow(self) -> bool:
        """Whether --until is met; no more seeds are begun then."""
        values = [ending.value for _, ending in self.ended_as.values() if ending.state == "COMPLETE"]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if self._plan.until is None or len(known) < FEWEST:
            return False
        return summarize(known).half_width <= self._plan.until


def train_seeds(experiment: Experiment, plan: Seeds, options: Options) -> Result:
    """Trains an experiment once for each seed, and shows the mean of each metric with its interval."""
    return _train(experiment, plan, options, None)


def resume_seeds(run_id: str, overrides: Mapping[str, str], state_folder: StateFolder, options: Options) -> Result:
    """Continues a training on several seeds: those that are missing, were interrupted or have failed.

    Args:
        run_id: of the parent run, or a prefix of it.

    Raises:
        ValueError: there are overrides, the state folder came from elsewhere, or the run's files cannot be read.
    """
    folder = state_folder.run_folder(run_id)
    if overrides:
        raise ValueError(
            f"--{next(iter(overrides))} cannot be changed when a training on several seeds resumes: "
            f"`harness train --from RUN --seeds ...`, with one of its runs, starts a new one"
        )
    if options.trust and state_folder.folder.exists():
        remember(state_folder.folder)
    check_own(state_folder.folder, "to train its runs again")
    try:
        known = json.loads(read_text(folder / PLAN))
        plan = Seeds(tuple(map(int, known["seeds"])), known["until"])
        metric, test = known["metric"], bool(known["test"])
        experiment = load(str(folder / "artifacts" / "config.yaml"))
        experiment.name, experiment.search_path = str(known["name"]), list(map(str, known["search_path"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"run {run_id} cannot be resumed: {folder / PLAN} or its config.yaml cannot be read"
        ) from error
    if metric is not None:
        experiment.search = SearchPlan(metric, known["direction"], {}, "random", "none", {}, known["further"])
    return _train(experiment, plan, replace(options, test=test and options.test), folder.name)


def _train(experiment: Experiment, plan: Seeds, options: Options, parent: str | None) -> Result:
    began = time.monotonic()
    search = experiment.search
    if plan.until is not None and search is None:
        raise ValueError(f"--until needs a metric: experiment {experiment.name} has no search: section that names one")
    metric, direction = (search.metric, search.direction) if search else (None, "maximize")
    display = display_for(options, f"train {experiment.name}", metric, direction, len(plan.seeds), "run")
    with display, opened(experiment, options, display) as session:
        session.check(metric, {})
        experiment_id = session.connect()
        known = parent is not None
        parent = parent or _open_parent(session, experiment_id, plan)
        session.take_lease(parent)
        if known:
            _say_changed_data(session, parent)
            session.tracking.soon.reopen(parent)
            session.tracking.soon.delete_tag(parent, "harness.outcome")
        session.write_provenance(parent, session.provenance_folder)
        given = {key: value for key, value in options.tags.items() if not key.startswith("mlflow.")}
        replicates = Replicates(session, experiment_id, parent, known, given, options.test)
        source = SeedsSource(replicates, Configuration("", experiment.sections), plan)
        loop = session.loop()
        loop.run(source)
        runs = [source.ended_as[seed] for seed in plan.seeds if seed in source.ended_as]
        interrupted = loop.signal is not None
        display.phase("drawing the curves of all seeds")
        summaries = summaries_of([ending for _, ending in runs])
        _show(session, parent, runs, summaries)
        failed = [spec.seed for spec, ending in runs if ending.state == "FAIL"]
        status = "interrupted" if interrupted else "failed" if failed else "finished"
        ends = {"finished": ("FINISHED", None), "failed": ("FAILED", "failed")}
        session.tracking.soon.end(parent, *ends.get(status, ("KILLED", "interrupted")))
    return Result(
        status,
        time.monotonic() - began,
        loop.signal,
        {
            "run_id": parent,
            "folder": str(session.state_folder.trial_folder(parent)),
            "page": run_page(experiment_id, parent),
            "metric": metric,
            "planned": len(plan.seeds),
            "seeds": [_replicate(spec, ending) for spec, ending in runs],
            "metrics": summaries,
            "error": f"training failed with seed {', '.join(map(str, failed))}" if failed else None,
        },
    )


def _say_changed_data(session: Session, parent: str) -> None:
    for child in session.tracking.now.children(parent):
        changed = session.data.changed_since(session.state_folder.trial_folder(child.run_id))
        if changed is not None:
            session.display.say(changed)
            return


def _open_parent(session: Session, experiment_id: str, plan: Seeds) -> str:
    experiment, options = session.experiment, session.options
    listed = ", ".join(map(str, plan.seeds))
    tags = {"harness.kind": "replicates", "harness.seeds": listed, **session.data.tags, **options.tags}
    name = options.name or f"{experiment.name}, {len(plan.seeds)} seeds"
    run_id, folder = session.start_run(
        experiment_id, name, experiment.sections, plan.seeds[0], tags, {}, searched=["seed"]
    )
    search = experiment.search
    fields = {
        "seeds": plan.seeds,
        "until": plan.until,
        "name": experiment.name,
        "metric": search.metric if search else None,
        "direction": search.direction if search else "maximize",
        "further": search.further if search else {},
        "search_path": experiment.search_path,
        "test": options.test,
    }
    write_whole(folder / PLAN, json.dumps(fields, indent=1))
    return run_id


def _replicate(spec: TrialSpec, ending: Ending) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "run_id": spec.run_id,
        "status": {"COMPLETE": "finished", "INTERRUPTED": "interrupted"}.get(ending.state, "failed"),
        "metrics": ending.metrics,
        "failure": ending.error,
    }


def summaries_of(endings: Sequence[Ending]) -> dict[str, Summary]:
    """The mean of each metric over the finished runs that have it, with its interval."""
    complete = [ending.metrics for ending in endings if ending.state == "COMPLETE"]
    names = dict.fromkeys(name for metrics in complete for name in metrics if not name.startswith(RESOURCES))
    found = {}
    for name in names:
        values = [metrics[name] for metrics in complete if math.isfinite(metrics.get(name, math.nan))]
        if values:
            found[name] = summarize(values)
    return found


def stored_summaries(summaries: Mapping[str, Summary]) -> dict[str, float]:
    """Metrics of a parent run: the mean as NAME, and NAME/std, NAME/low and NAME/high."""
    stored = {}
    for name, summary in summaries.items():
        stored[name] = summary.mean
        for word in ("std", "low", "high"):
            value = getattr(summary, word)
            if value is not None:
                stored[f"{name}/{word}"] = value
    return stored


def _show(
    session: Session, parent: str, runs: list[tuple[TrialSpec, Ending]], summaries: Mapping[str, Summary]
) -> None:
    """Means, a table of the seeds, and the curves, in the parent's run."""
    soon = session.tracking.soon
    finished = [(spec, ending) for spec, ending in runs if ending.state == "COMPLETE"]
    soon.log_metrics(parent, {**stored_summaries(summaries), "seeds": float(len(finished))})
    columns: dict[str, list[Any]] = {"seed": [], "run_id": [], "state": [], **{name: [] for name in summaries}}
    for spec, ending in runs:
        row = {"seed": spec.seed, "run_id": spec.run_id, "state": ending.state}
        for name, column in columns.items():
            column.append(row[name] if name in row else ending.metrics.get(name))
    soon.log_table(parent, columns, "seeds.json")
    if len(finished) < 2:
        return
    from studies.plots.figure import save  # half a second, that the start need not wait for
    from studies.plots.replicates import curves_with_bands
    from studies.reports.curves import logged_series

    series = [logged_series(Path(spec.folder)) for spec, _ in finished]
    names = [name for name in series[0] if all(name in one for one in series) and not name.startswith(RESOURCES)]
    curves = {name: [one[name] for one in series] for name in names}
    bands = {name: curve_with_band(curves[name]) for name in names}
    folder = session.state_folder.trial_folder(parent) / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    save(curves_with_bands(bands, curves), folder / "curves_with_bands.png")
    soon.log_files(parent, folder, "pictures")
