"""The page of a study's report: from StudyReport to HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from studies.config.search_space import Choice, Range, parse_space
from studies.reports.html import bars, chart, command, document, escaped, facts, figures, section, table
from studies.reports.study import (
    COUNTED,
    StudyReport,
    best_first,
    busy_seconds,
    chart_data,
    space_words,
    spent,
    trials_data,
)
from studies.reports.values import MISSING, count, duration, is_number, number_text, parameters_of, text_of
from studies.search import TrialRow

SHOWN = 10  # trials on the leaderboard at first
CELL = 60  # characters of a value in a table
LINES = "A line is a trial; the stronger its colour, the better. Lines end at its value of the metric."
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


def study_page(report: StudyReport) -> str:
    """The whole page of a study's report."""
    data = chart_data(report)
    study = f"Study of {report.experiment}" if report.experiment != report.name else "Study"
    kind = f"{study} · {report.metric}, {report.direction}d"
    return document(report.name, kind, _sections(report, data), data, f"harness report {report.name}")


def parallel_page(rows: Sequence[TrialRow], metric: str, direction: str, space: Mapping[str, Range | Choice]) -> str:
    """A page with the parallel coordinates alone: as light as a picture, and trials can be picked."""
    parameters = parameters_of([row.params for row in rows], space)
    data = trials_data(rows, metric, direction, parameters, best_first(rows, {metric: direction}))
    body = f"<section>{chart('parallel', f'parameters and {metric}')}</section>"
    return document(f"{metric} by parameters", f"Parallel coordinates · {direction}d", [body], data, LINES)


def _sections(report: StudyReport, data: dict[str, Any]) -> Iterator[str]:
    yield _key_figures(report, data["decimals"])
    if report.alarms:
        lines = "".join(f"<li>{escaped(line)}</li>" for line in report.alarms)
        yield f'<section class="alarms" aria-label="Alarms"><ul>{lines}</ul></section>'
    if report.order:
        yield _leaderboard(report, data["decimals"])
    if any(value is not None for value in data["trials"]["value"]):
        yield from _charts(report)
    if report.failures:
        yield _failures(report)
    yield _cost(report)
    yield _reproduce(report)


def _key_figures(report: StudyReport, places: int) -> str:
    rows, best = report.rows, report.best
    states = {state: trials for state, (trials, _) in spent(rows).items()}
    rest = ", ".join(f"{states[state]:,} {word}" for state, word in WORDS.items() if states.get(state))
    items = []
    if best is not None and best.value is not None:
        items.append((f"best {report.metric}", _value(best.value, places), f"trial {best.number}"))
        tests = _test_metrics(report)
        items += [(name, number_text(value), "of the best trial") for name, value in list(tests.items())[:2]]
    items.append(("trials", f"{len(rows):,}", rest))
    total = sum(row.seconds or 0.0 for row in rows)
    items.append(("time", duration(busy_seconds(rows)), f"{duration(total)} of trials"))
    return figures(items)


def _test_metrics(report: StudyReport) -> dict[str, float]:
    metrics = report.best_run.metrics if report.best_run is not None else {}
    own = report.metric.rpartition("/")[2]
    names = sorted(metrics, key=lambda name: (name != f"test/{own}", name))
    return {name: metrics[name] for name in names if name.startswith("test/")}


def _value(value: float, places: int) -> str:
    return f"{value:.{places}f}" if is_number(value) and abs(value) < 1e6 else number_text(value)


def _leaderboard(report: StudyReport, places: int) -> str:
    rows = []
    for rank, index in enumerate(report.order[:SHOWN], start=1):
        row = report.rows[index]
        values = [_cell(parameter.values[index]) for parameter in report.parameters]
        further = [number_text(row.further.get(name)) for name in report.further]
        value = _value(row.value or 0.0, places)
        run = (row.run_id or "")[:8]
        rows.append([rank, row.number, value, *further, *values, duration(row.seconds), run])
    short = [text_of(parameter.short) for parameter in report.parameters]
    heads = ["rank", "trial", report.metric, *report.further, *short, "took", "run"]
    kinds = ["" if parameter.is_category else "number" for parameter in report.parameters]
    classes = ["number", "number", "number key", *["number"] * len(report.further), *kinds, "number", "code"]
    more = '<button type="button" id="more" hidden>Show more</button>' if len(report.order) > SHOWN else ""
    return section("Leaderboard", table(heads, rows, classes, name="leaderboard", marked=0), more)


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    return number_text(value) if is_number(value) else text_of(value, CELL)


def _charts(report: StudyReport) -> Iterator[str]:
    metric = report.metric
    history = section(
        "Search history", chart("history", f"{metric} of each trial"), lead=f"{metric} of each trial, in their order."
    )
    curves = ""
    if report.curves is not None:
        ended = sum(row.state in COUNTED for row in report.rows)
        some = "all" if report.curves["of"] >= ended else f"{report.curves['of']:,} of {ended:,}"
        lead = f"{metric} at each validation, over {some} complete and pruned trials."
        curves = section("Learning curves", chart("curves", f"{metric} at each validation"), lead=lead)
    yield f'<div class="columns">{history}{curves}</div>' if curves else history
    if report.further:
        yield _front(report)
    if report.own_curves:
        yield section(f"The best trial, {report.best.number if report.best else ''}", line_panels(report.own_curves))
    if not report.parameters:
        return
    yield _importance(report)
    yield section("Parallel coordinates", chart("parallel", f"parameters and {metric}"), lead=LINES)
    lead = f"{metric} against each parameter on its own."
    yield section("Slices", chart("slices", f"{metric} by parameter"), lead=lead)


def _front(report: StudyReport) -> str:
    """The first objective against each further one."""
    first, *further = report.objectives
    cells = [
        f"<div><h3>{escaped(name)}, {escaped(report.objectives[name])}d</h3>"
        f"{chart('front', f'{first} against {name}', of=index)}</div>"
        for index, name in enumerate(further)
    ]
    lead = f"{first} against each further objective: on the front, none gets better unless another one gets worse."
    return section("Pareto front", f'<div class="panels wide">{"".join(cells)}</div>', lead=lead)


def line_panels(charts: list[dict[str, Any]]) -> str:
    """A grid of line charts, each under the name of its metric."""
    cells = [
        f"<div><h3>{escaped(item['title'])}</h3>{chart('lines', item['title'], of=index)}</div>"
        for index, item in enumerate(charts)
    ]
    return f'<div class="panels wide">{"".join(cells)}</div>'


def _importance(report: StudyReport) -> str:
    if not report.importances:
        return section("Parameter importance", lead="Too few complete trials to tell.")
    used, of = report.sample
    drawn = f" From {used:,} of {of:,} complete trials, drawn at random." if used < of else ""
    lead = f"The share of {report.metric}'s variance over the space that each parameter explains (fANOVA).{drawn}"
    short = {parameter.name: parameter.short for parameter in report.parameters}
    ranked = sorted(report.importances.items(), key=lambda item: -item[1] if is_number(float(item[1])) else 0.0)
    shares = [(text_of(short.get(name, name)), float(share)) for name, share in ranked if is_number(float(share))]
    return section("Parameter importance", bars(shares), lead=lead)


def _failures(report: StudyReport) -> str:
    rows = []
    for failure in report.failures:
        some = ", ".join(map(str, failure.trials[:6]))
        rows.append([len(failure.trials), failure.reason, some + (", …" if len(failure.trials) > 6 else "")])
    total = sum(len(failure.trials) for failure in report.failures)
    lead = f"{count(total, 'trial')} failed. Numbers in messages do not count as different reasons."
    return section("Failures", table(["trials", "reason", "which"], rows, ["number", "long", "long"]), lead=lead)


def _cost(report: StudyReport) -> str:
    parts = spent(report.rows)
    total = sum(seconds for _, seconds in parts.values())
    rows: list[list[object]] = []
    for state, word in WORDS.items():
        if state in parts:
            trials, seconds = parts[state]
            share = f"{seconds / total:.1%}" if total else MISSING
            rows.append([word, f"{trials:,}", duration(seconds), share, duration(seconds / trials)])
    rows.append(["all", f"{len(report.rows):,}", duration(total), "", duration(total / max(1, len(report.rows)))])
    lead = f"At least one trial was open for {duration(busy_seconds(report.rows))}; times of trials add up."
    heads = ["trials", "number", "time", "share", "each"]
    return section("Cost", table(heads, rows, ["", *["number"] * 4]), lead=lead)


def _reproduce(report: StudyReport) -> str:
    best, parent, run = report.best, report.parent, report.best_run
    parts = []
    if best is not None:
        parts += ["<h3>The best trial again</h3>", command(f"harness train --from {report.name}/{best.number}")]
    said = parent.tags.get("mlflow.source.name") if parent is not None else None
    if said:
        parts += ["<h3>The study</h3>", command(said)]
    parts += ["<h3>Facts</h3>", facts([*_facts(report), *run_facts(run.tags if run is not None else {})])]
    space = report.space if isinstance(report.space, str) else parse_space(report.space)
    parts += ["<h3>Search space</h3>", facts(space_words(space))]
    return section("How to reproduce", *parts)


def _facts(report: StudyReport) -> list[tuple[str, object]]:
    run, parent = report.best_run, report.parent
    params = parent.params if parent is not None else {}
    seed = run.params.get("seed") if run is not None else None
    return [
        ("study seed", report.seed),
        ("seed of the best trial", seed),
        ("sampler", params.get("search.sampler")),
        ("pruner", params.get("search.pruner")),
        ("run of the best trial", run.run_id if run is not None else None),
        ("test", ", ".join(f"{name} {number_text(value)}" for name, value in _test_metrics(report).items())),
        ("git commit", parent.tags.get("mlflow.source.git.commit") if parent is not None else None),
    ]


def run_facts(tags: dict[str, str]) -> list[tuple[str, object]]:
    """Where a run was trained, and with which versions."""
    prefix = "harness.version."
    versions = [f"{name.removeprefix(prefix)} {value}" for name, value in tags.items() if name.startswith(prefix)]
    return [
        ("device", tags.get("harness.device")),
        ("host", tags.get("harness.host")),
        ("Python", tags.get("harness.python")),
        ("versions", ", ".join(sorted(versions))),
    ]
