"""What the report of a study says: figures, tables and the data of its charts, all as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.config.search_space import Choice, Range, parse_space
from studies.plots.ranges import floats, limits
from studies.reports.curves import bands, line_charts, logged_series, reported_values
from studies.reports.edges import edge_alarms
from studies.reports.failures import Failure, failures
from studies.reports.values import Parameter, decimals, duration, number, parameters_of, text_of
from studies.search import FANOVA_TRIALS, Search, TrialRow, front_of, ranked
from studies.tracking.run_info import RunInfo

COUNTED = ("COMPLETE", "PRUNED")
FAST_SAMPLE = 150  # complete trials from which a report on its own computes importances: a second


@dataclass
class StudyReport:
    """A study as its report shows it.

    Attributes:
        rows: all trials by number.
        order: positions in `rows` of the complete trials with a value, best first.
        importances: parameter -> share of the metric's variance; empty with too few trials.
        sample: complete trials that were used for the importances, and all.
        parent: the study's run in MLflow, or None.
        best_run: the best trial's.
        curves: see curves.bands.
        objectives: metric -> maximize or minimize, the first one first.
        own_curves: the best trial's metrics, see curves.line_charts.
    """

    name: str
    experiment: str
    metric: str
    direction: str
    seed: Any
    space: Any
    rows: list[TrialRow]
    order: list[int]
    parameters: list[Parameter]
    importances: dict[str, float]
    sample: tuple[int, int]
    alarms: list[str]
    failures: list[Failure]
    curves: dict[str, Any] | None
    objectives: dict[str, str]
    own_curves: list[dict[str, Any]] = field(default_factory=list)
    parent: RunInfo | None = None
    best_run: RunInfo | None = None

    @property
    def further(self) -> list[str]:
        """The objectives after the first."""
        return list(self.objectives)[1:]

    @property
    def best(self) -> TrialRow | None:
        return self.rows[self.order[0]] if self.order else None


def study_report(
    search: Search,
    run: Callable[[str], RunInfo | None],
    parent: str | None,
    folder_of: Callable[[str], Path],
    importances: dict[str, float] | None = None,
) -> StudyReport:
    """Reads what a report shows: Optuna's trials at once, two runs of MLflow, and a few logs.

    Args:
        run: reads a run of MLflow; may raise ValueError.
        parent: id of the study's run, or None.
        folder_of: a run's folder.
        importances: as computed from up to FANOVA_TRIALS trials; None: computed from fewer, which is faster.
    """
    definition = search.definition
    written, direction = definition["space"], str(definition["direction"])
    space = None if isinstance(written, str) else parse_space(written)
    rows = search.trials()
    objectives = {str(definition["metric"]): direction} | definition.get("further", {})
    order = best_first(rows, objectives)
    best = rows[order[0]] if order else None
    most = FANOVA_TRIALS if importances is not None else FAST_SAMPLE
    parameters = parameters_of([row.params for row in rows], space)
    own = logged_series(folder_of(best.run_id)) if best is not None and best.run_id else {}
    counted = {row.number: folder_of(row.run_id) for row in rows if row.state in COUNTED and row.run_id}
    return StudyReport(
        name=search.name,
        experiment=str(definition["experiment"]["name"]),
        metric=str(definition["metric"]),
        direction=direction,
        seed=definition["seed"],
        space=written,
        rows=rows,
        order=order,
        parameters=parameters,
        importances=importances if importances is not None else search.importances(most),
        sample=(min(most, len(order)), len(order)),
        alarms=edge_alarms(parameters, order) + _late(rows, order),
        failures=failures(rows, folder_of),
        curves=bands(reported_values(counted, best.number if best else None), best.number if best else None, direction),
        objectives=objectives,
        own_curves=line_charts([("", own)], by_split=True, first=str(definition["metric"])),
        parent=_read(run, parent),
        best_run=_read(run, best.run_id if best else None),
    )


def _read(run: Callable[[str], RunInfo | None], run_id: str | None) -> RunInfo | None:
    """A run of MLflow, or None if it is deleted there."""
    try:
        return run(run_id) if run_id else None
    except ValueError:
        return None


def _late(rows: Sequence[TrialRow], order: Sequence[int]) -> list[str]:
    """A sentence if the search was still getting better when it ended."""
    if len(order) < 20:
        return []
    finished = sorted(order)
    since = len(finished) - finished.index(order[0])
    if since > len(finished) // 20:
        return []
    when = "trial is the best one" if since == 1 else f"{since} trials hold the best one"
    return [f"The last {when}: the search is still getting better, so more trials may find more."]


def best_first(rows: Sequence[TrialRow], objectives: Mapping[str, str]) -> list[int]:
    """Positions of the complete trials with a value, best first; see studies.search.ranked."""
    index_of = {row.number: index for index, row in enumerate(rows)}
    return [index_of[row.number] for row in ranked(list(rows), objectives)]


def chart_data(report: StudyReport) -> dict[str, Any]:
    """The data of the report's charts; see charts.js."""
    top = [value for index in report.order[:10] if (value := report.rows[index].value) is not None]
    data = trials_data(report.rows, report.metric, report.direction, report.parameters, report.order)
    data["trials"]["took"] = [duration(row.seconds) for row in report.rows]
    data["trials"]["run"] = [(row.run_id or "")[:8] for row in report.rows]
    front = {row.number for row in front_of(report.rows, report.objectives)} if report.further else set()
    return data | {
        "decimals": decimals(top),
        "curves": report.curves,
        "lines": report.own_curves,
        "further": [_further_axis(name, report.rows) for name in report.further],
        "front": [index for index, row in enumerate(report.rows) if row.number in front],
    }


def _further_axis(name: str, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """A further objective: its value in each trial, and its axis, which is logarithmic if values span much."""
    values = [number(row.further.get(name)) for row in rows]
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    log = low > 0 and high >= 20 * low
    return {"name": text_of(name), "values": values, "log": log, "low": low, "high": high if high > low else low + 1}


def trials_data(
    rows: Sequence[TrialRow], metric: str, direction: str, parameters: Sequence[Parameter], order: list[int]
) -> dict[str, Any]:
    """What charts of trials draw: values, parameters, and the range of the metric's axis."""
    values = [number(row.value) for row in rows]
    low, high = limits(floats(values), direction)
    return {
        "metric": metric,
        "maximize": direction == "maximize",
        "best": order[0] if order and values[order[0]] is not None else None,
        "range": {"low": low, "high": high},
        "order": order,
        "parameters": [parameter.to_json() for parameter in parameters],
        "trials": {
            "number": [row.number for row in rows],
            "value": values,
            "state": "".join(row.state[0] for row in rows),
        },
    }


def spent(rows: Sequence[TrialRow]) -> dict[str, tuple[int, float]]:
    """State -> number of its trials and the seconds that they took."""
    found: dict[str, tuple[int, float]] = {}
    for row in rows:
        trials, seconds = found.get(row.state, (0, 0.0))
        found[row.state] = trials + 1, seconds + (row.seconds or 0.0)
    return found


def busy_seconds(rows: Sequence[TrialRow]) -> float:
    """The time in which at least one trial was open: breaks between two commands do not count."""
    spans = sorted((row.began, row.began + row.seconds) for row in rows if row.began and row.seconds)
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def space_words(space: Mapping[str, Range | Choice] | str) -> list[tuple[str, str]]:
    """Parameter -> its range in words."""
    if isinstance(space, str):
        return [("space", space)]
    found = []
    for name, entry in space.items():
        if isinstance(entry, Range):
            extras = ", log" if entry.log else f", step {entry.step:g}" if entry.step else ""
            found.append((name, f"{entry.low:g} to {entry.high:g}{extras}"))
        else:
            found.append((name, ", ".join(map(str, entry.values))))
    return found
