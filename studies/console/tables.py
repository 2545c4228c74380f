"""Trials as plain text: leaderboard, aligned tables, and formatting of numbers and parameters."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from typing import Any

from studies.common.objective import best_first, pareto_front


def leaderboard(
    rows: list[dict[str, Any]],
    metric: str,
    direction: str,
    best: int | None,
    limit: int = 10,
    width: int | None = None,
    further: Mapping[str, str] | None = None,
) -> str:
    """The best trials as an aligned table, best first; other trials are counted below.

    With several objectives the trials of the Pareto front come first, all of them.

    Args:
        rows: (number, value, state, params), and the short id of its `run` to show it where there is room.
        metric: its name.
        direction: maximize or minimize.
        best: number of the best trial, marked by a star.
        limit: maximum number of trials.
        width: in characters; parameters that do not fit are left out. None: the terminal's width, or unlimited if
            stdout is not a terminal.
        further: the further objectives, metric -> direction; their values are in `further` of the rows.
    """
    width = shutil.get_terminal_size((1_000_000, 24)).columns if width is None else width
    complete = [row for row in rows if row["state"] == "COMPLETE" and row["value"] is not None]
    complete.sort(key=lambda row: row["number"])
    objectives = {metric: direction, **(further or {})}
    points = [[row["value"], *(_further(row, name) for name in further or ())] for row in complete]
    front = {complete[index]["number"] for index in pareto_front(points, objectives)} if further else set()
    complete = [complete[index] for index in best_first(points, objectives)]
    shown = complete[: max(limit, len(front))]
    names = list(dict.fromkeys(name for row in shown for name in row["params"]))
    columns = [
        ["", *("*" if row["number"] == best else "" for row in shown)],
        ["rank", *(str(rank) for rank in range(1, len(shown) + 1))],
        ["trial", *(str(row["number"]) for row in shown)],
        *([["front", *("yes" if row["number"] in front else "" for row in shown)]] if further else []),
        [metric, *(number_text(row["value"]) for row in shown)],
        *([name, *(_objective_text(_further(row, name)) for row in shown)] for name in further or ()),
        *parameter_columns(names, [row["params"] for row in shown]),
    ]
    runs = ["run", *(row.get("run", "") for row in shown)]
    if any(runs[1:]) and fits([*columns, runs], width):
        columns.append(runs)
    lines = align(columns, width) if shown else []
    if len(complete) > len(shown):
        lines.append(f"... and {len(complete) - len(shown)} more")
    words = {"PRUNED": "pruned", "FAIL": "failed", "RUNNING": "interrupted", "WAITING": "waiting"}
    counts = {word: sum(row["state"] == state for row in rows) for state, word in words.items()}
    lines.append(", ".join([f"{len(complete)} complete", *(f"{n} {word}" for word, n in counts.items() if n)]))
    return "\n".join(lines)


def _further(row: dict[str, Any], name: str) -> float:
    return float(row.get("further", {}).get(name, "nan"))


def _objective_text(value: float) -> str:
    """A whole number in full: 6690 parameters."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else number_text(value)


def align(columns: list[list[str]], width: int) -> list[str]:
    """The lines of a table, with numbers right-aligned; the first contains line breaks if long names are wrapped.

    If the table is too wide, names are wrapped at _ and /, then the last columns are dropped.
    """
    heads = [[column[0]] for column in columns]
    if _width(columns, heads) > width:
        heads = [re.sub(r"(?<=[_/.])(?=.)", "\n", column[0]).split("\n") for column in columns]
    while len(columns) > 1 and _width(columns, heads) > width:
        columns, heads = columns[:-1], heads[:-1]
    depth = max(len(head) for head in heads)
    heads = [[""] * (depth - len(head)) + head for head in heads]  # bottom-aligned
    cells = [[*head, *column[1:]] for head, column in zip(heads, columns, strict=True)]
    for index, column in enumerate(columns):
        size = max(map(len, cells[index]))
        numbers = all(re.fullmatch(r"|-?[\d.]+(e[-+]?\d+)?|nan|-?inf|-", cell) for cell in column[1:])
        cells[index] = [cell.rjust(size) if numbers else cell.ljust(size) for cell in cells[index]]
    lines = ["  ".join(line).rstrip() for line in zip(*cells, strict=True)]
    return ["\n".join(lines[:depth]), *lines[depth:]]


def fits(columns: list[list[str]], width: int) -> bool:
    """Whether a table with these columns is at most `width` characters wide without wrapping a name."""
    return _width(columns, [[column[0]] for column in columns]) <= width


def _width(columns: list[list[str]], heads: list[list[str]]) -> int:
    sizes = [max(map(len, [*head, *column[1:]])) for head, column in zip(heads, columns, strict=True)]
    return sum(sizes) + 2 * (len(sizes) - 1)


def parameter_columns(names: list[str], params: list[dict[str, Any]]) -> list[list[str]]:
    short = short_names(names)
    return [[short[name], *(value_text(row[name]) if name in row else "-" for row in params)] for name in names]


def short_names(names: list[str]) -> dict[str, str]:
    """The last part of each dotted name, or the full name if ambiguous."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}


def number_text(value: float) -> str:
    """A metric value with four significant digits: 0.9000."""
    return f"{value:#.4g}".rstrip(".")


def value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(value_text, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def assignments(params: dict[str, Any]) -> str:
    short = short_names(list(params))
    return " ".join(f"{short[name]}={value_text(value)}" for name, value in params.items())


def speed_text(per_second: float) -> str:
    """Optimizer steps per second: 120, 3.4."""
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.2g}"


def rate_text(per_second: float, what: str = "trial") -> str:
    """Trials per second as people say it: 4.2 trials/s, 12 trials/min, 3 trials/h."""
    for seconds, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if per_second * seconds >= 1 or unit == "h":
            return f"{speed_text(per_second * seconds)} {what}s/{unit}"
    raise AssertionError


def duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
