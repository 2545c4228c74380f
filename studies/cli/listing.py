"""`harness runs`: a table of runs."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
from typing import TYPE_CHECKING

from studies.cli.bad_input import BadInput, at_least
from studies.cli.commands import PLACES, open_tracking
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.common.short_ids import run_ids, short_ids
from studies.common.state_folder import StateFolder
from studies.common.suggestions import did_you_mean
from studies.console.tables import align, duration_text, number_text, short_names, value_text

if TYPE_CHECKING:
    from studies.tracking.run_info import RunInfo

NAME = 24  # characters of a name


def runs(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("limit", options.limit)
    found = open_tracking().runs(options.experiment, options.study, options.limit, options.where, options.sort)
    chosen = _columns(options.columns, found) if options.columns and found else None
    if options.json:
        print_json({"runs": [run.to_json() for run in found]})
        return 0
    short = short_ids([run.run_id for run in found], run_ids(StateFolder.find()))
    columns = [
        ["run", *(short[run.run_id] for run in found)],
        ["experiment", *(_short(run.experiment) for run in found)],
        ["name", *(_short(run.name) for run in found)],
        ["status", *(run.status.lower() for run in found)],
        *(chosen if chosen is not None else [["best", *map(_best, found)]]),
        ["took", *(_duration(run) for run in found)],
        ["started", *(time.strftime("%Y-%m-%d %H:%M", time.localtime(run.start_time)) for run in found)],
        *(_differing(found) if chosen is None else []),
    ]  # those on the right are left out where the terminal is too narrow
    width = shutil.get_terminal_size((1_000_000, 24)).columns
    for line in align(columns, width):
        show(line)
    show("\nnext: harness compare RUN RUN, or harness ui")
    return 0


def _duration(run: RunInfo) -> str:
    if run.status == "RUNNING" or run.end_time is None:
        return ""
    return duration_text(max(0.0, run.end_time - run.start_time))


def _best(run: RunInfo) -> str:
    """The best values; of several seeds their mean, with half the width of its interval."""
    best = {name: value for name, value in run.metrics.items() if name.startswith("best/") and name not in PLACES}
    return "  ".join(
        f"{name.removeprefix('best/')} {value:.4g}{run.spread(name)}"
        for name, value in best.items()
        if not run.is_spread(name)
    )


def _differing(found: list[RunInfo]) -> list[list[str]]:
    """Columns of the parameters that differ among runs of one experiment; with several, all would."""
    trained = [run for run in found if run.kind != "study"]
    if len({run.experiment for run in found}) != 1 or not trained:
        return []
    names = sorted({name for run in trained for name in run.params})
    differing = [name for name in names if len({run.params.get(name) for run in trained}) > 1]
    short = short_names(differing)
    return [[short[name], *(_short(run.params.get(name, "-")) for run in found)] for name in differing]


def _columns(text: str, found: list[RunInfo]) -> list[list[str]]:
    """The columns of --columns: metrics, parameters and tags, by their full or short names.

    Raises:
        BadInput: none of the runs has one of that name, or there are several.
    """
    names = sorted({name for run in found for values in (run.metrics, run.params, run.tags) for name in values})
    columns = []
    for wanted in filter(None, (item.strip() for item in text.split(","))):
        matches = [name for name in names if name == wanted] or [
            name for name in names if name.endswith((f".{wanted}", f"/{wanted}"))
        ]
        if not matches:
            raise BadInput(f"no run has a metric, parameter or tag {wanted}{did_you_mean(wanted, names)}")
        if len(matches) > 1:
            raise BadInput(f"column {wanted} is ambiguous: {', '.join(matches)}")
        columns.append([wanted, *(_cell(run, matches[0]) for run in found)])
    return columns


def _cell(run: RunInfo, name: str) -> str:
    if name in run.metrics:
        return number_text(run.metrics[name])
    return _short(run.params.get(name, run.tags.get(name, "-")))


def _short(text: str) -> str:
    """A text in one line of a table; of a number that is no integer, four digits."""
    with contextlib.suppress(ValueError):
        if not text.lstrip("-").isdigit():
            return value_text(float(text))
    return " ".join(text.split())[:NAME]
