"""What is seen while it works: a live table for a study, a progress line for a run, plain lines without a terminal.

Everything goes to stderr. It knows plain values only, and is never in the way: it draws at most four times a
second, and loads rich only where there is a terminal.
"""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

REFRESH_SECONDS = 0.25
LINE_SECONDS = {True: 5.0, False: 10.0}  # without a terminal: how often a run, or a study's trial, says where it is
ENDED_SHOWN = 5  # rows of ended trials in the live table


@dataclass
class Row:
    """A trial as it is shown."""

    number: int
    params: dict[str, Any]
    began: float
    state: str = "running"
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    seconds: float = 0.0
    said: float = 0.0

    @property
    def share(self) -> float | None:
        """How much of it is done, 0 to 1, or None if nobody knows."""
        if self.steps:
            return min(1.0, self.step / self.steps)
        return min(1.0, self.epoch / self.epochs) if self.epochs else None

    @property
    def place(self) -> str:
        if self.steps:
            return f"step {self.step}/{self.steps}"
        return f"epoch {min(self.epoch + 1, self.epochs or self.epoch + 1)}/{self.epochs or '?'}"


class Display:
    """The display of one command.

    Args:
        title: what is going on, e.g. "study mnist_mlp".
        metric: the metric that decides, or None.
        direction: maximize or minimize, or None.
        total: number of trials; 1 shows a single run.
        stream: where to draw.
    """

    def __init__(
        self, *, title: str, metric: str | None, direction: str | None, total: int, stream: TextIO | None = None
    ) -> None:
        self.title, self.metric, self.direction, self.total = title, metric, direction, total
        self._stream = sys.stderr if stream is None else stream
        self._rows: dict[int, Row] = {}
        self._done = 0
        self._phase: str | None = None
        self._began = self._phase_began = time.monotonic()
        self._drawn = 0.0
        self._live: Any = None

    def __enter__(self) -> Display:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        if self._stream.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream)
            self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """A line that stays, above whatever moves."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def phase(self, text: str) -> None:
        """What is being done between trials; shown with its seconds until a trial starts."""
        self._phase, self._phase_began = text, time.monotonic()
        if self._live is None:
            self.say(f"{text} ...")
        self.refresh(force=True)

    def trial_started(self, number: int, params: dict[str, Any]) -> None:
        self._phase = None
        self._rows[number] = Row(number, params, time.monotonic(), said=time.monotonic())
        if self._live is None and self.total > 1:
            self.say(f"trial {number}  started  {_params(params)}")
        self.refresh()

    def trial_progress(
        self, number: int, epoch: int, epochs: int | None, step: int, steps: int | None, metrics: dict[str, float]
    ) -> None:
        row = self._rows.setdefault(number, Row(number, {}, time.monotonic()))
        row.epoch, row.epochs, row.step, row.steps, row.metrics = epoch, epochs, step, steps, dict(metrics)
        if self._live is None and time.monotonic() - row.said > LINE_SECONDS[self.total == 1]:
            row.said = time.monotonic()
            name = "" if self.total == 1 else f"trial {number}  "
            self.say(f"{name}{row.place}  step {step}  {_metrics(row.metrics)}  {self._left(row)}".rstrip())
        self.refresh()

    def trial_ended(self, number: int, state: str, value: float | None, seconds: float) -> None:
        row = self._rows.setdefault(number, Row(number, {}, time.monotonic()))
        row.state, row.value, row.seconds = state, value, seconds
        self._done += state != "INTERRUPTED"
        if self._live is None:
            result = "" if value is None else f"  {self.metric} {value:.4g}"
            if self.total == 1:
                self.say(f"{state.lower()} in {seconds:.1f} s{result}  {_metrics(row.metrics)}")
            else:
                best = self.best
                beaten = f"  best {best.value:.4g} (trial {best.number})" if best is not None else ""
                left = self._time_left()
                self.say(
                    f"trial {number}  {state}{result}{beaten}  {self._done}/{self.total}  "
                    f"{f'{left} left  ' if left else ''}{_params(row.params)}"
                )
        self.refresh(force=True)

    @property
    def best(self) -> Row | None:
        """The best complete trial so far."""
        complete = [row for row in self._rows.values() if row.state == "COMPLETE" and row.value is not None]
        sign = -1 if self.direction == "maximize" else 1
        return min(complete, key=lambda row: sign * (row.value or 0.0), default=None)

    def refresh(self, force: bool = False) -> None:
        """Draws, if there is a terminal and the last time is long enough ago."""
        now = time.monotonic()
        if self._live is None or (not force and now - self._drawn < REFRESH_SECONDS):
            return
        self._drawn = now
        self._live.update(self._renderable(), refresh=True)

    def _renderable(self) -> Any:
        from rich.text import Text

        if self._phase is not None:
            return Text(f"{self.title}: {self._phase} ({time.monotonic() - self._phase_began:.0f} s)")
        if self.total == 1:
            row = next(iter(self._rows.values()), None)
            return Text(self._progress_line(row) if row else self.title, no_wrap=True, overflow="ellipsis")
        return self._table()

    def _progress_line(self, row: Row) -> str:
        seconds = max(time.monotonic() - row.began, 1e-9)
        share = row.share
        bar = "" if share is None else "━" * round(20 * share) + "╌" * (20 - round(20 * share)) + " "
        return f"{bar}{row.place}  {row.step / seconds:.0f} it/s  {_metrics(row.metrics)}  {self._left(row)}"

    def _table(self) -> Any:
        from rich.table import Table

        best = self.best
        beaten = f"best {best.value:.4g} (trial {best.number})" if best is not None else "no result yet"
        left = self._time_left()
        title = f"{self.title}  {self._done}/{self.total}  {beaten}" + (f"  {left} left" if left else "")
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("trial", "state", "epoch", str(self.metric)):
            table.add_column(column, no_wrap=True)
        table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
        ended = [row for row in self._rows.values() if row.state != "running"][-ENDED_SHOWN:]
        shown = {id(row): row for row in ([best] if best else []) + ended}
        running = [row for row in self._rows.values() if row.state == "running"]
        for row in [*shown.values(), *running]:
            value = row.value if row.state != "running" else row.metrics.get(self.metric or "")
            style = {"COMPLETE": None, "running": "bold", "FAIL": "red"}.get(row.state, "dim")
            style = "green" if row is best else style
            text = "" if value is None else f"{value:.4g}"
            table.add_row(str(row.number), row.state, row.place, text, _params(row.params), style=style)
        return table

    def _left(self, row: Row) -> str:
        share = row.share
        if not share:
            return ""
        return _duration((time.monotonic() - row.began) * (1 - share) / share) + " left"

    def _time_left(self) -> str:
        """Time left for a study, from how fast trials have come to their end so far."""
        if not self._done or self._done >= self.total:
            return ""
        first = min(row.began for row in self._rows.values())
        return _duration((time.monotonic() - first) / self._done * (self.total - self._done))


def leaderboard(rows: list[dict[str, Any]], metric: str, direction: str, best: int | None, limit: int = 10) -> str:
    """The best trials as an aligned table, best first; what did not complete is counted below.

    Args:
        rows: of number, value, state, params.
        metric: its name.
        direction: maximize or minimize.
        best: number of the best trial, marked by a star.
        limit: at most so many lines.
    """
    sign = -1 if direction == "maximize" else 1
    complete = [row for row in rows if row["state"] == "COMPLETE" and row["value"] is not None]
    complete.sort(key=lambda row: (sign * row["value"], row["number"]))
    names = list(dict.fromkeys(name for row in complete for name in row["params"]))
    short = _short_names(names)
    table = [["", "rank", "trial", metric, *[short[name] for name in names]]]
    for rank, row in enumerate(complete[:limit], start=1):
        values = [_value(row["params"].get(name)) for name in names]
        star = "*" if row["number"] == best else ""
        table.append([star, str(rank), str(row["number"]), _value(row["value"]), *values])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table]
    if len(complete) > limit:
        lines.append(f"... and {len(complete) - limit} more")
    counts = {state: sum(row["state"] == state for row in rows) for state in ("PRUNED", "FAIL", "RUNNING", "WAITING")}
    words = {"PRUNED": "pruned", "FAIL": "failed", "RUNNING": "interrupted", "WAITING": "waiting"}
    others = ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)
    lines.append(f"{len(complete)} complete" + (f", {others}" if others else ""))
    return "\n".join(lines)


def _short_names(names: list[str]) -> dict[str, str]:
    """The last part of each dotted name, or the whole where two would be the same."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _params(params: dict[str, Any]) -> str:
    short = _short_names(list(params))
    return " ".join(f"{short[name]}={_value(value)}" for name, value in params.items())


def _metrics(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if not name.endswith("learning_rate"))


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
