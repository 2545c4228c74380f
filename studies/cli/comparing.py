"""`harness compare`: runs side by side: the parameters and data in which they differ, then their metrics.

Of a training on several seeds, metrics are means with half the width of their 95% interval.

On a terminal, what differs from the first run is yellow.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from studies.cli.bad_input import BadInput
from studies.cli.commands import find_run, open_tracking
from studies.cli.levels import level_rows, parse_level, times_to
from studies.cli.output import print_json
from studies.common.short_ids import run_ids, short_ids
from studies.common.state_folder import StateFolder
from studies.common.text import visible
from studies.console.colours import has_colours, in_yellow

if TYPE_CHECKING:
    from studies.tracking.run_info import RunInfo

MISSING = "-"
HEAD = ("name", "run", "status")  # rows that tell the runs apart


def compare(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    if options.csv and options.json:
        raise BadInput("--csv and --json are two forms of the same answer: give one of them")
    level = parse_level(options.level) if options.level is not None else None
    tracking = open_tracking()
    runs = [find_run(tracking, name) for name in options.runs]
    times = [times_to(level, run, tracking) for run in runs] if level is not None else []
    if options.json:
        answers = [run.to_json() for run in runs]
        for answer, found in zip(answers, times, strict=False):
            answer["reached"] = [{"epochs": one.epochs, "seconds": one.seconds} if one else None for one in found]
        print_json({"runs": answers})
        return 0
    lines = [*_rows(runs, exact=options.csv), *level_rows(level, times)]
    rows = [[visible(cell) for cell in row] for row in lines]
    if options.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(row for row in rows if row)
        return 0
    width, in_colour = shutil.get_terminal_size((1_000_000, 24)).columns, has_colours(sys.stdout)
    for block in _blocks(rows, len(runs), width):
        widths = [max(len(row[index]) for row in block if row) for index in range(len(block[0]))]
        for row, whole in zip(block, [*rows, []], strict=False):
            cells = [cell.rjust(size) for cell, size in zip(row, widths, strict=False)]
            cells[:1] = [cell.ljust(widths[0]) for cell in row[:1]]
            if in_colour and whole and whole[0] not in HEAD:
                cells[1:] = [in_yellow(cell) if cell.strip() != whole[1] else cell for cell in cells[1:]]
            print("  ".join(cells).rstrip(), flush=True)
    return 0


def _rows(runs: list[RunInfo], exact: bool) -> Iterator[list[str]]:
    """Names, ids and status; an empty row; the parameters and data that differ; an empty row; the metrics.

    Args:
        exact: metrics with all digits, and ids in full.
    """
    short = short_ids([run.run_id for run in runs], run_ids(StateFolder.find()))
    yield ["name", *(_line(run.name) for run in runs)]
    yield ["run", *(run.run_id if exact else short[run.run_id] for run in runs)]
    yield ["status", *(run.status.lower() for run in runs)]
    yield []
    for name in sorted({name for run in runs for name in run.params}):
        values = [_line(run.params.get(name, MISSING)) for run in runs]
        if len(set(values)) > 1:
            yield [name, *values]
    for split in ("train", "val", "test"):
        values = [_line(", ".join(info.described() for info in run.data.get(split, [])) or MISSING) for run in runs]
        if len(set(values)) > 1:
            yield [f"data/{split}", *values]
    yield []
    for name in sorted({name for run in runs for name in run.metrics if not name.startswith("system/")}):
        if exact:
            yield [name, *(repr(run.metrics[name]) if name in run.metrics else MISSING for run in runs)]
        elif not all(run.is_spread(name) for run in runs if name in run.metrics):
            texts = [f"{run.metrics[name]:.5g}{run.spread(name)}" if name in run.metrics else MISSING for run in runs]
            yield [name, *texts]


def _line(text: str) -> str:
    return " ".join(text.split())


def _blocks(rows: list[list[str]], runs: int, width: int) -> Iterator[list[list[str]]]:
    """The table in parts that fit the terminal, each with the names and at least one run; values are never cut."""
    sizes = [max(len(row[index]) for row in rows if row) + 2 for index in range(runs + 1)]
    first = 1
    while first <= runs:
        last = first + 1
        while last <= runs and sizes[0] + sum(sizes[first : last + 1]) - 2 <= width:
            last += 1
        yield [[row[0], *row[first:last]] if row else [] for row in rows] + ([[]] if last <= runs else [])
        first = last
