"""Progress display: a live table for a study, a progress line for a run, plain lines without a terminal.

Everything goes to stderr. The display only handles plain values and never blocks: calls store values and return, and
on a terminal, a thread draws four times a second. rich is only imported for terminals.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TextIO

from studies.common.text import visible
from studies.console.colours import has_colours
from studies.console.frames import FRAMES, FrameWriter
from studies.console.tables import (
    align,
    assignments,
    duration_text,
    fits,
    number_text,
    parameter_columns,
    rate_text,
    speed_text,
)

DRAWN_PER_SECOND = 4
RUN_SECONDS, TRIAL_SECONDS = (
    5.0,
    10.0,
)  # without a terminal: minimum time between lines of a run, and of a study's trial
LONG_EPOCH_SECONDS = 30.0  # interval of a run's lines within an epoch
PHASE_SECONDS = 10.0
ENDED_SHOWN = 5  # ended trials in the live table besides the best
SPINNER = "|/-\\"
STYLES = {"COMPLETE": "", "running": "bold", "PRUNED": "dim", "FAIL": "red", "INTERRUPTED": "yellow"}


@dataclass
class Row:
    """The displayed state of a trial."""

    number: int
    params: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=lambda: time.monotonic())
    state: str = "running"
    epoch: int = 0  # from 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    updated: float | None = None  # time of the last update
    start: tuple[int, float] = (0, 0.0)  # step and time from which its speed is measured
    steps_per_epoch: float | None = None

    def update(
        self,
        epoch: int,
        epochs: int | None,
        step: int,
        steps: int | None,
        metrics: dict[str, float],
        at: float | None = None,
    ) -> None:
        """Sets its progress. `at`: the time of that progress, by time.monotonic(), if it was not just now."""
        now = time.monotonic() if at is None else at
        if self.updated is None:
            self.start = (0, self.began) if epoch == 0 else (step, now)  # resumed from a checkpoint
        elif epoch > self.epoch:
            self.steps_per_epoch = self.step / (self.epoch + 1)
        self.epoch, self.epochs, self.step, self.steps = epoch, epochs, step, steps
        self.metrics, self.updated = dict(metrics), now

    @property
    def share(self) -> float | None:
        """Completed share, 0 to 1, or None if unknown."""
        ends = [self.steps] if self.steps else []
        if self.epochs and self.steps_per_epoch:
            ends.append(round(self.epochs * self.steps_per_epoch))
        if ends:
            return min(1.0, self.step / max(1, min(ends)))
        return self.epoch / self.epochs if self.epochs else None

    @property
    def speed(self) -> float:
        """Optimizer steps per second, or 0 while unknown."""
        step, at = self.start
        return (self.step - step) / (self.updated - at) if self.updated and self.updated > at else 0.0

    @property
    def left(self) -> float | None:
        """Remaining seconds, or None while unknown."""
        share = self.share
        if not share or not self.speed or self.updated is None:
            return None
        return max(0.0, self.step * (1 - share) / share / self.speed - (time.monotonic() - self.updated))

    @property
    def place(self) -> str:
        return "" if self.updated is None else f"{self.epoch + 1}/{self.epochs}" if self.epochs else f"{self.epoch + 1}"


class Display:
    """The display of one command; a context manager.

    Args:
        title: e.g. "study mnist_mlp".
        metric: name of the objective, or None.
        direction: maximize or minimize, or None.
        total: number of trials, including those of earlier starts; 1 shows a single run.
        stream: where to draw; stderr if None.
        live: whether to draw in place; None: if the stream is a capable terminal and NO_COLOR is not set. False is for
            debuggers, whose prompt must not be overdrawn.
        quiet: show nothing but what `say` is called with: warnings and errors.
        unit: what is trained: a "trial" of a study, or a "run".
    """

    def __init__(
        self,
        *,
        title: str,
        metric: str | None,
        direction: str | None,
        total: int,
        stream: TextIO | None = None,
        live: bool | None = None,
        quiet: bool = False,
        unit: str = "trial",
    ) -> None:
        self.unit = unit
        self.title, self.metric, self.direction, self.total = title, metric, direction, total
        self._stream = sys.stderr if stream is None else stream
        self._wants_live = False if quiet else live
        self.quiet = quiet
        self._live: Any = None
        # No lock: a signal handler that prints could deadlock with the drawing thread. What the thread reads is
        # replaced, never modified in place, and at worst one frame behind.
        self._by_number: dict[int, Row] = {}  # running trials, and ended ones that may be shown
        self._over: set[int] = set()  # numbers of ended trials, except interrupted ones
        self._walls = 0, 0.0  # number of completed or pruned trials, and their total seconds
        self._earlier = 0
        self._best: tuple[float, int] | None = None  # value and trial number
        self._workers = 1
        self._phase: str | None = None
        self._phase_began = self._phase_said = 0.0
        self._said: dict[int, float] = {}  # trial -> time of its last plain line
        self._lines: deque[str] = deque()
        self._saying = False

    def __enter__(self) -> Display:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        if self._live is None and self._wants_live is None and os.environ.get(FRAMES):
            self._live = FrameWriter(self._stream, self._drawing)
            self._live.start()
            return
        wanted = has_colours(self._stream) if self._wants_live is None else self._wants_live
        if self._live is not None or not wanted:
            return
        from rich.console import Console

        from studies.console.live_area import LiveArea

        self._live = LiveArea(
            Console(file=self._stream, force_terminal=True),
            self._picture,
            refresh_per_second=DRAWN_PER_SECOND,
            redirect_stdout=sys.stdout.isatty(),  # only redirect a terminal: a pipe must receive prints unchanged
            redirect_stderr=self._stream is sys.stderr,
            vertical_overflow="crop",
        )
        self._live.start()

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError, ValueError):  # the terminal was closed
                live.stop()

    def inform(self, line: str) -> None:
        """Prints a permanent line that nobody needs to see."""
        if not self.quiet:
            self.say(line)

    def say(self, line: str) -> None:
        """Prints a permanent line above the live display."""
        self._lines.append(visible(line))
        if self._saying:  # a signal handler called this during a write; the writer prints this line, too
            return
        self._saying = True
        try:
            while self._lines:
                with contextlib.suppress(OSError, ValueError):  # a lost terminal must not stop the work
                    self._write(self._lines.popleft())
        finally:
            self._saying = False

    def _write(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def phase(self, text: str) -> None:
        """Sets the activity that is shown, with its duration, until a trial starts."""
        self._phase, self._phase_began = text, time.monotonic()
        self._phase_said = self._phase_began
        if self._live is None:
            self.inform(f"{text} ...")

    def refresh(self) -> None:
        """Call regularly while waiting: without a terminal, prints a line now and then during a long phase."""
        now = time.monotonic()
        if self._live is None and self._phase is not None and now - self._phase_said >= PHASE_SECONDS:
            self._phase_said = now
            self.inform(f"{self._phase} ... {duration_text(now - self._phase_began)}")

    def resumed(self, done: int, best: float | None = None, number: int | None = None) -> None:
        """Accounts for trials that ended before this start, with the best one's value and number."""
        self._earlier = done
        if best is not None and number is not None:
            self._best = (best, number)

    def known(
        self, number: int, params: dict[str, Any], state: str, value: float | None, seconds: float | None = None
    ) -> None:
        """A trial that had ended before: counted and shown in the live table, without a line of its own.

        Args:
            seconds: its duration, if it tells how long further trials will take.
        """
        self._by_number[number] = Row(number, dict(params), state=state, value=value)
        self._over.add(number)
        if state == "COMPLETE" and value is not None and self._beats(value):
            self._best = (value, number)
        if seconds is not None and state in ("COMPLETE", "PRUNED"):
            self._walls = self._walls[0] + 1, self._walls[1] + seconds
        self._forget()

    def trial_started(self, number: int, params: dict[str, Any], began: float | None = None) -> None:
        """A trial has started, at `began` by time.monotonic() if it was not just now."""
        self._phase = None
        self._over.discard(number)
        self._by_number[number] = Row(number, dict(params), time.monotonic() if began is None else began)
        self._workers = max(self._workers, len(self._running))
        self._said[number] = time.monotonic()
        if params and (self._live is None or self.total == 1):
            self.inform(f"{self.unit} {number}  started  {assignments(params)}")

    def trial_progress(
        self,
        number: int,
        epoch: int,
        epochs: int | None,
        step: int,
        steps: int | None,
        metrics: dict[str, float],
        at: float | None = None,
    ) -> None:
        """Updates a trial's progress. `epoch` counts from 0, `step` counts optimizer steps; totals may be unknown."""
        if number in self._over:
            return
        row = self._by_number.setdefault(number, Row(number))
        before = self._run_line(row) if self._live is None and epoch > row.epoch and row.updated else None
        row.update(epoch, epochs, step, steps, metrics, at)
        if self._live is not None:
            return
        silent = time.monotonic() - self._said.get(number, 0.0)
        if self.total > 1 and silent >= TRIAL_SECONDS:
            self._plain(row, f"{self.unit} {number}  {self._run_line(row)}")
        elif self.total == 1 and before is not None and silent >= RUN_SECONDS:
            self._plain(row, before)  # an epoch's last values are only known when the next one begins
        elif self.total == 1 and silent >= LONG_EPOCH_SECONDS:
            self._plain(row, self._run_line(row))

    def _plain(self, row: Row, line: str) -> None:
        self._said[row.number] = time.monotonic()
        self.inform(line)

    def trial_ended(self, number: int, state: str, value: float | None, seconds: float) -> None:
        """Shows a trial's end. `state`: COMPLETE, PRUNED, FAIL or INTERRUPTED; `seconds`: its duration."""
        row = self._by_number.setdefault(number, Row(number))
        row.state, row.value = state, value
        if state != "INTERRUPTED":
            self._over.add(number)
        if state in ("COMPLETE", "PRUNED"):
            count, seconds_in_all = self._walls
            self._walls = count + 1, seconds_in_all + time.monotonic() - row.began
        if state == "COMPLETE" and value is not None and self._beats(value):
            self._best = (value, number)
        result = "" if value is None else f"  {self.metric} {number_text(value)}"
        if self.total == 1:
            if self._live is None and row.updated:
                self.inform(self._run_line(row))
            self.inform(f"{state} in {duration_text(seconds)}{result}")
        elif self._live is None:
            self.inform(
                "  ".join(
                    [f"{self.unit} {number}  {state}{result}", *self._standing(), assignments(row.params)]
                ).rstrip()
            )
        self._forget()

    def _forget(self) -> None:
        """Removes ended trials that will no longer be shown: a study may have tens of thousands."""
        ended = [row.number for row in self._rows if row.state != "running" and row.number != self.best]
        for number in ended[:-ENDED_SHOWN]:
            del self._by_number[number]
            self._said.pop(number, None)

    def _beats(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        return self._best is None or (value < self._best[0] if self.direction == "minimize" else value > self._best[0])

    @property
    def best(self) -> int | None:
        """Number of the best complete trial so far."""
        return None if self._best is None else self._best[1]

    @property
    def _rows(self) -> list[Row]:
        return list(self._by_number.values())

    @property
    def _running(self) -> list[Row]:
        return [row for row in self._rows if row.state == "running"]

    @property
    def _done(self) -> int:
        return self._earlier + len(self._over)

    def row(self, number: int) -> Row | None:
        """A trial's displayed state: of a running one, or an ended one that may be shown."""
        return self._by_number.get(number)

    @property
    def rate(self) -> float | None:
        """A study's trials per second, or None while unknown; failed trials do not count."""
        count, seconds = self._walls
        return count * self._workers / seconds if count and seconds else None

    @property
    def left(self) -> float | None:
        """A study's remaining seconds: those of running and future trials, divided by the number of workers."""
        now, running = time.monotonic(), self._running
        known = {row.number: row.left for row in running}
        count, seconds = self._walls
        if not count:
            expected = [now - row.began + left for row in running if (left := known[row.number]) is not None]
            count, seconds = len(expected), sum(expected)
        if not count:
            return None
        mean = seconds / count
        lefts = [known[row.number] or max(0.0, mean - (now - row.began)) for row in running]
        waiting = max(0, self.total - self._done - len(running))
        return max([*lefts, (sum(lefts) + waiting * mean) / self._workers], default=None)

    def _standing(self) -> list[str]:
        """Best so far, done of all, and time left."""
        parts = [] if self._best is None else [f"best {number_text(self._best[0])} ({self.unit} {self._best[1]})"]
        parts.append(f"{self._done}/{self.total}")
        if self.rate is not None:
            parts.append(rate_text(self.rate, self.unit))
        left = self.left
        return parts if left is None or self._done >= self.total else [*parts, f"{duration_text(left)} left"]

    def _run_parts(self, row: Row) -> list[str]:
        """A trial's progress in parts, most important first."""
        left, first = row.left, [name for name in row.metrics if name == self.metric]
        names = first + sorted(
            (name for name in row.metrics if name != self.metric and not name.endswith("learning_rate")),
            key=lambda name: not name.startswith("val/"),
        )
        values = [f"{name} {number_text(row.metrics[name])}" for name in names]
        speed = [f"{speed_text(row.speed)} it/s"] if row.speed else []
        ending = [] if left is None else [f"{duration_text(left)} left" if row.share != 1 else "finishing"]
        return [f"epoch {row.place}", *ending, *values[:1], f"step {row.step}", *speed, *values[1:4]]

    def _run_line(self, row: Row) -> str:
        parts = self._run_parts(row)
        ending = [part for part in parts if part.endswith(" left") or part == "finishing"]
        return "  ".join([part for part in parts if part not in ending] + ending)

    # Live drawing, on rich's thread.

    def _picture(self, width: int, height: int) -> list[tuple[str, str]]:
        return [(visible(line), style) for text, style in self._drawing(width, height) for line in text.split("\n")]

    def _drawing(self, width: int, height: int) -> list[tuple[str, str]]:
        """Styled lines, within the given width and height."""
        rows = self._rows
        heading: list[tuple[str, str]] = []
        if self._phase is not None:
            now = time.monotonic()
            seconds = duration_text(now - self._phase_began)
            sign = SPINNER[int(now * DRAWN_PER_SECOND) % len(SPINNER)]
            heading = [(f"{sign} {self.title}: {self._phase}  {seconds}", "cyan")]
        if not rows or self.total == 1:
            return heading or [(self._progress(rows[-1], width) if rows else self.title, "")]
        heading = heading or [(self._headline(width), "bold")]
        running = self._running
        ended = [row for row in rows if row.state != "running" and row.number != self.best][-ENDED_SHOWN:]
        ended = [row for row in rows if row.state != "running" and row.number == self.best] + ended
        shown = ended + running
        header, *lines = self._table(shown, width)
        styles = ["green" if row.number == self.best else STYLES.get(row.state, "") for row in shown]
        heading += [(line, "dim") for line in header.split("\n")]
        room = max(1, height - len(heading))  # in a small window, show running trials first
        return (heading + list(zip(lines, styles, strict=True))[-room:])[:height]

    def _headline(self, width: int) -> str:
        """Title and standing, without the rate or the title if they do not fit."""
        whole = self._standing()
        brief = [part for part in whole if f" {self.unit}s/" not in part]
        texts = ["  ".join(parts) for parts in ([self.title, *whole], [self.title, *brief], whole, brief)]
        return next((text for text in texts if len(text) <= width), texts[-1])

    def _table(self, rows: list[Row], width: int) -> list[str]:
        names = list(dict.fromkeys(name for row in rows for name in row.params))
        columns = [[self.unit, *(str(row.number) for row in rows)], ["epoch", *(row.place for row in rows)]]
        if self.metric is not None:
            values = [row.metrics.get(self.metric) if row.state == "running" else row.value for row in rows]
            columns.append([self.metric, *("" if value is None else number_text(value) for value in values)])
        columns.append(["state", *(row.state.lower() for row in rows)])
        columns += parameter_columns(names, [row.params for row in rows])
        if any(row.state == "running" and row.updated for row in rows):
            running = [row if row.state == "running" and row.updated else None for row in rows]
            more = [
                ["step", *("" if row is None else str(row.step) for row in running)],
                ["it/s", *("" if row is None or not row.speed else speed_text(row.speed) for row in running)],
            ]
            columns += more if fits([*columns, *more], width) else []
        return align(columns, width)

    def _progress(self, row: Row, width: int) -> str:
        if row.updated is None:
            return f"{self.title}: starting  {duration_text(time.monotonic() - row.began)}"
        parts, bar = self._run_parts(row), ""
        if row.share is not None:
            size = 20 if width >= 60 else 8
            full = round(size * row.share)
            fits = (self._stream.encoding or "").lower().replace("-", "") == "utf8"
            bar = ("━" * full + "╌" * (size - full) if fits else "#" * full + "-" * (size - full)) + "  "
        line = bar + parts[0]
        for part in parts[1:]:
            if len(line) + 2 + len(part) <= width:
                line += "  " + part
        return line
