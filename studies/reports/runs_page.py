"""The page of a report on runs: their metrics side by side, what differs, and how to train each again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from studies.reports.curves import Series, line_charts
from studies.reports.html import command, document, escaped, facts, figures, section, table
from studies.reports.study_page import line_panels, run_facts
from studies.reports.values import MISSING, duration, number_text, text_of
from studies.tracking.run_info import RunInfo

CELL = 120  # characters of a parameter's value
PLACES = ("best/step", "best/epoch")  # of older versions: no values of a metric


@dataclass
class RunReport:
    """A run, and its metrics over its steps."""

    run: RunInfo
    series: Series

    @property
    def name(self) -> str:
        return self.run.name or self.run.run_id[:8]


def runs_page(reports: Sequence[RunReport]) -> str:
    """The whole page of a report on one or several runs."""
    names = _names(reports)
    curves = [(name, _without_system(report.series)) for name, report in zip(names, reports, strict=True)]
    charts = line_charts(curves, by_split=len(reports) == 1)
    experiments = ", ".join(dict.fromkeys(report.run.experiment for report in reports))
    title = names[0] if len(reports) == 1 else f"{len(reports)} runs compared"
    again = " ".join(report.run.run_id[:8] for report in reports)
    return document(
        title, f"Run of {experiments}" if len(reports) == 1 else f"Runs of {experiments}",
        _sections(reports, names, charts), {"lines": charts}, f"harness report {again}",
    )  # fmt: skip


def _names(reports: Sequence[RunReport]) -> list[str]:
    """A name for each run that no other one has."""
    plain = [report.name for report in reports]
    return [
        text_of(f"{report.name} · {report.run.run_id[:8]}" if plain.count(report.name) > 1 else report.name, 60)
        for report in reports
    ]


def _without_system(series: Series) -> Series:
    return {name: points for name, points in series.items() if not name.startswith("system/")}


def _sections(reports: Sequence[RunReport], names: list[str], charts: list[dict[str, object]]) -> Iterator[str]:
    if len(reports) == 1:
        yield _key_figures(reports[0].run)
    else:
        yield section("Runs", _overview(reports, names))
    if charts:
        yield section("Curves", line_panels(charts))
    yield _parameters(reports, names)
    yield _metrics(reports, names)
    yield _reproduce(reports, names)


def _key_figures(run: RunInfo) -> str:
    shown = [name for name in run.metrics if name.startswith("best/") and name not in PLACES]
    shown += [name for name in sorted(run.metrics) if name.startswith("test/")]
    items = [(name, number_text(run.metrics[name]), "") for name in shown[:4]]
    return figures([*items, ("status", run.status.lower(), ""), ("took", _took(run), "")])


def _took(run: RunInfo) -> str:
    return duration(run.end_time - run.start_time) if run.end_time is not None else MISSING


def _overview(reports: Sequence[RunReport], names: list[str]) -> str:
    rows = [
        [name, report.run.run_id[:8], report.run.status.lower(), _took(report.run), _best(report.run)]
        for name, report in zip(names, reports, strict=True)
    ]
    return table(["run", "id", "status", "took", "best"], rows, ["key", "code", "", "number", ""])


def _best(run: RunInfo) -> str:
    best = {name: value for name, value in run.metrics.items() if name.startswith("best/") and name not in PLACES}
    return ", ".join(f"{name.removeprefix('best/')} {number_text(value)}" for name, value in best.items()) or MISSING


def _parameters(reports: Sequence[RunReport], names: list[str]) -> str:
    every = sorted({name for report in reports for name in report.run.params})
    rows = [(name, [report.run.params.get(name, MISSING) for report in reports]) for name in every]
    differing = [(name, values) for name, values in rows if len(set(values)) > 1]
    shown = rows if len(reports) == 1 else differing
    heading = "Parameters" if len(reports) == 1 else "Parameters that differ"
    if not shown:
        return section(heading, lead="None: these runs have equal parameters.")
    cells = [[name, *(text_of(value, CELL) for value in values)] for name, values in shown]
    return section(heading, table(["parameter", *_columns(names)], cells, ["", *[""] * len(names)]))


def _columns(names: list[str]) -> list[str]:
    return ["value"] if len(names) == 1 else names


def _metrics(reports: Sequence[RunReport], names: list[str]) -> str:
    every = {name for report in reports for name in report.run.metrics if not name.startswith("system/")}
    ranked = sorted(
        every - {"epoch"}, key=lambda name: (not name.startswith("test/"), not name.startswith("best/"), name)
    )
    if not ranked:
        return section("Metrics", lead="None were logged.")
    cells = [[name, *(number_text(report.run.metrics.get(name), 5) for report in reports)] for name in ranked]
    lead = "Test and best values first; of the others, the last value."
    return section("Metrics", table(["metric", *_columns(names)], cells, ["", *["number"] * len(names)]), lead=lead)


def _reproduce(reports: Sequence[RunReport], names: list[str]) -> str:
    parts = []
    for name, report in zip(names, reports, strict=True):
        run = report.run
        parts.append(f"<h3>{escaped(name)}</h3>")
        parts.append(command(f"harness train --from {run.run_id[:8]}"))
        said = run.tags.get("mlflow.source.name")
        parts.append(
            facts(
                [
                    ("command", said),
                    ("seed", run.params.get("seed")),
                    ("git commit", run.tags.get("mlflow.source.git.commit")),
                    *run_facts(run.tags),
                    ("error", run.tags.get("harness.error")),
                ]
            )
        )
    return section("How to reproduce", *parts)
