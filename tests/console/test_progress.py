import io
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.console import progress as display_module
from studies.console.progress import Display, Row
from studies.console.tables import align, duration_text, leaderboard, rate_text

ROWS: list[dict[str, Any]] = [
    {"number": 0, "value": 0.9, "state": "COMPLETE", "params": {"model.lr": 0.00123456, "data.b": 32}},
    {"number": 1, "value": 0.95, "state": "COMPLETE", "params": {"model.lr": 0.1, "data.b": 64}},
    {"number": 2, "value": 0.5, "state": "PRUNED", "params": {"model.lr": 0.2, "data.b": 64}},
    {"number": 3, "value": None, "state": "FAIL", "params": {}},
    {"number": 4, "value": None, "state": "RUNNING", "params": {}},
]


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


class Clock:
    """A fake time.monotonic for the display."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(display_module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def study(stream: io.StringIO, total: int = 3, direction: str = "maximize", **options: Any) -> Display:
    return Display(title="study s", metric="val/accuracy", direction=direction, total=total, stream=stream, **options)


def work(display: Display) -> None:
    with display:
        display.phase("importing torch")
        display.trial_started(0, {"model.learning_rate": 0.001234, "data.batch_size": 64})
        display.trial_progress(0, 0, 2, 10, None, {"train/loss": 1.0, "val/accuracy": 0.5})
        display.trial_ended(0, "COMPLETE", 0.9, 1.5)
        display.trial_started(1, {"model.learning_rate": 0.1, "data.hidden": [128, 64]})
        display.trial_ended(1, "PRUNED", 0.95, 0.5)
        display.say("something to [know]")
        if display._live is not None:
            display._live.refresh()


def drawn(display: Display, width: int = 80, height: int = 24) -> str:
    return "\n".join(line for line, _ in display._drawing(width, height))


def test_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    work(study(stream))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "trial 0  started  learning_rate=0.001234 batch_size=64" in text
    ended = next(line for line in text.splitlines() if line.startswith("trial 0  COMPLETE"))
    assert re.search(
        r"val/accuracy 0.9000  best 0.9000 \(trial 0\)  1/3  \d+ trials/\w+  \d+s left  learning_rate=0.001234 ", ended
    )
    assert "trial 1  PRUNED  val/accuracy 0.9500  best 0.9000 (trial 0)  2/3" in text  # the pruned one is not the best
    assert "hidden=[128,64]" in text
    assert "something to [know]" in text


def test_a_live_table_in_a_terminal(terminal: Terminal) -> None:
    work(study(terminal))
    text = terminal.getvalue()
    assert "\x1b" in text and "complete" in text and "something to [know]" in text


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_a_terminal_without_live_display_gets_plain_lines(
    name: str, value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    work(study(terminal))
    assert "\x1b" not in terminal.getvalue() and "COMPLETE" in terminal.getvalue()


@pytest.mark.parametrize("live", [None, True])
def test_quiet_leaves_warnings_and_errors(terminal: Terminal, live: bool | None) -> None:
    display = study(terminal, live=live, quiet=True)
    work(display)
    display.refresh()
    assert terminal.getvalue() == "something to [know]\n"


def test_an_extended_trial_has_its_speed_place_and_time_left(clock: Clock) -> None:
    display = study(io.StringIO(), total=1)
    display.trial_started(3, {})
    clock.now += 5  # to build the module
    for step in range(42, 61, 2):  # of 10 steps each; 4 epochs were done before
        display.trial_progress(3, (step - 1) // 10, 10, step, None, {})
        clock.now += 0.5
    row = display.row(3)
    assert row is not None and row.place == "6/10" and row.speed == pytest.approx(4)
    assert row.left == pytest.approx(40 / 4 - 0.5)


def test_live_false_never_draws_over_a_debugger(terminal: Terminal) -> None:
    work(study(terminal, live=False))
    assert "\x1b" not in terminal.getvalue()


def test_a_trial_has_at_most_one_progress_line_each_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    display = study(stream)
    display.trial_started(0, {})
    for step in range(1, 41):
        clock.now += 1
        display.trial_progress(0, 0, 4, step, None, {"val/accuracy": 0.5})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "trial 0  epoch 1/4  val/accuracy 0.5000  step 10  1 it/s"


def test_a_long_phase_prints_regular_lines(clock: Clock) -> None:
    stream = io.StringIO()
    display = study(stream)
    display.phase("importing torch")
    for _ in range(25):
        clock.now += 1
        display.refresh()
    assert stream.getvalue().splitlines() == [
        "importing torch ...",
        "importing torch ... 10s",
        "importing torch ... 20s",
    ]
    assert "importing torch  25s" in drawn(display)


def test_a_run_has_a_line_per_epoch_with_the_epochs_last_values(clock: Clock) -> None:
    stream = io.StringIO()
    display = study(stream, total=1)
    display.trial_started(0, {})
    for step in range(10, 41, 5):
        clock.now += 5
        values = {"train/loss": 1 / step, "train/learning_rate": 0.1}
        display.trial_progress(0, (step - 1) // 20, 2, step, None, values | {"val/accuracy": step / 100})
    display.trial_ended(0, "COMPLETE", 0.4, 35.0)
    assert stream.getvalue().splitlines() == [
        "epoch 1/2  val/accuracy 0.2000  step 20  1.3 it/s  train/loss 0.05000",
        "epoch 2/2  val/accuracy 0.4000  step 40  1.1 it/s  train/loss 0.02500  finishing",
        "COMPLETE in 35s  val/accuracy 0.4000",
    ]


def test_a_long_epoch_prints_lines(clock: Clock) -> None:
    stream = io.StringIO()
    display = study(stream, total=1)
    display.trial_started(0, {})
    for step in range(1, 62):
        clock.now += 1
        display.trial_progress(0, 0, 2, step, None, {})
    assert len(stream.getvalue().splitlines()) == 2


def test_time_left_of_a_run_is_known_after_its_first_epoch(clock: Clock) -> None:
    row = Row(0)
    for step in (10, 20, 30):
        clock.now += 10
        row.update((step - 1) // 20, 4, step, None, {})
    assert row.steps_per_epoch == 20 and row.share == 30 / 80 and row.left == pytest.approx(50)
    clock.now += 20
    assert row.left == pytest.approx(30)


def test_time_left_of_a_run_with_max_steps_and_of_a_resumed_one(clock: Clock) -> None:
    row, resumed = Row(0), Row(1)
    clock.now += 10
    row.update(0, None, 50, 100, {})
    assert row.left == pytest.approx(10)
    resumed.update(4, None, 500, 1000, {})
    assert resumed.left is None  # its 500 steps were done by another process: no speed yet
    clock.now += 10
    resumed.update(4, None, 600, 1000, {})
    assert resumed.left == pytest.approx(40)


def test_time_left_of_a_study_counts_workers_and_running_trials(clock: Clock) -> None:
    display = study(io.StringIO(), total=6)
    for number in (0, 1):
        display.trial_started(number, {})
    clock.now += 10
    for number in (0, 1):
        display.trial_ended(number, "COMPLETE", 0.5, 10.0)
    for number in (2, 3):
        display.trial_started(number, {})
    clock.now += 4
    assert display._standing() == ["best 0.5000 (trial 0)", "2/6", "12 trials/min", "16s left"]  # (6 + 6 + 2 * 10) / 2


def test_trials_before_this_start_count() -> None:
    stream = io.StringIO()
    display = study(stream, total=8)
    display.resumed(5, 0.97, 2)
    display.trial_started(5, {})
    display.trial_ended(5, "COMPLETE", 0.9, 1.0)
    assert "best 0.9700 (trial 2)  6/8" in stream.getvalue()


def test_trials_known_from_a_database_are_in_the_table_and_in_no_line(clock: Clock) -> None:
    stream = io.StringIO()
    display = study(stream, total=4)
    display.known(0, {"model.lr": 0.1}, "COMPLETE", 0.9, 20.0)
    display.known(1, {"model.lr": 0.2}, "FAIL", None)
    assert stream.getvalue() == "" and display._standing()[:2] == ["best 0.9000 (trial 0)", "2/4"]
    assert re.search(r"0 +0.9000 +complete +0.1", drawn(display))
    display.trial_started(2, {}, began=clock.now - 8)
    display.trial_progress(2, 0, 2, 10, 40, {}, at=clock.now - 3)
    row = display.row(2)
    assert row is not None and row.speed == 2.0 and row.left == pytest.approx(12)  # 30 steps, less 3 s since then
    assert display.rate == 1 / 20


def test_steps_and_speed_are_shown_where_they_fit(clock: Clock) -> None:
    display = study(io.StringIO())
    display.trial_started(0, {"model.learning_rate": 0.1})
    clock.now += 2
    display.trial_progress(0, 0, 2, 10, None, {"val/accuracy": 0.5})
    wide, narrow = drawn(display), drawn(display, width=50)
    assert "study s  0/3" in wide and "step  it/s" in wide and "step" not in narrow and "learning_rate" in narrow


def test_only_trials_that_may_be_shown_are_kept(clock: Clock) -> None:
    display = study(io.StringIO(), total=200)
    for number in range(100):
        display.trial_started(number, {})
        clock.now += 4
        display.trial_ended(number, "FAIL" if number == 50 else "COMPLETE", 1.0 if number == 3 else 0.5, 4.0)
        display.trial_progress(number, 0, 1, 10, 10, {})  # its last update may come late
    assert list(display._by_number) == [3, *range(100 - display_module.ENDED_SHOWN, 100)]
    assert display._standing() == ["best 1.000 (trial 3)", "100/200", "15 trials/min", "6m40s left"]
    display.trial_started(99, {})
    display.trial_ended(99, "INTERRUPTED", None, 0.0)
    assert display._standing()[1] == "99/200"


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 1)])
def test_best_knows_the_direction_and_no_nan(direction: str, best: int) -> None:
    display = study(io.StringIO(), direction=direction)
    for number, value in enumerate((float("nan"), 1.0, 3.0, 2.0)):
        display.trial_ended(number, "COMPLETE", value, 1.0)
    assert display.best == best


def test_a_small_window_keeps_the_best_and_the_running_trials() -> None:
    display = study(io.StringIO(), total=30)
    for number in range(20):
        display.trial_started(number, {})
        display.trial_ended(number, "COMPLETE", 1.0 - number / 100, 1.0)
    display.trial_started(20, {})
    lines = drawn(display).splitlines()
    assert re.match(r" +0 .* complete", lines[2]) and len(lines) == 2 + 1 + display_module.ENDED_SHOWN + 1
    assert re.match(r" +20 .* running", drawn(display, height=3).splitlines()[-1])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(1, 30), st.sampled_from([1, 3]))
def test_any_window_size_works(width: int, height: int, total: int) -> None:
    display = study(io.StringIO(), total=total)
    assert len(drawn(display, width, height).splitlines()) <= height
    display.trial_started(0, {"model.learning_rate": 0.1, "data.batch_size": 64})
    display.trial_progress(0, 1, 8, 100, 800, {"val/accuracy": 0.5, "train/loss": 0.1})
    lines = drawn(display, width, height).splitlines()
    assert len(lines) <= height
    if width >= 40:
        assert max(map(len, lines)) <= width


def test_a_closed_terminal_does_not_stop_the_work(terminal: Terminal) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    stream = Gone()
    work(study(stream, live=False))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("live", [True, False])
def test_a_signal_handler_may_print_while_a_line_is_written(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Terminal):
        def write(self, text: str) -> int:
            if "first" in text:
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().write(text)

    stream = Slow()
    display = study(stream, live=live)
    handler = signal.signal(signal.SIGUSR1, lambda *_: display.say("second"))
    try:
        with display:
            display.say("first")
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert stream.getvalue().index("first") < stream.getvalue().index("second")


def test_updates_are_cheap_for_the_caller(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = []
    monkeypatch.setattr(Display, "_picture", lambda self, width, height: drawings.append(1) or [])
    with study(terminal) as display:
        before = len(drawings)
        for step in range(1000):
            display.trial_progress(0, 0, 2, step, None, {"val/accuracy": 0.5})
        assert len(drawings) - before < 100  # drawing is the thread's work, four times a second


def test_the_module_is_cheap_to_import() -> None:
    code = "import sys, studies.console.progress; assert not {'rich', 'numpy', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_leaderboard() -> None:
    lines = leaderboard(ROWS, "val/accuracy", "maximize", best=1, width=80).splitlines()
    assert lines == [
        "   rank  trial  val/accuracy        lr   b",
        "*     1      1        0.9500       0.1  64",
        "      2      0        0.9000  0.001235  32",
        "2 complete, 1 pruned, 1 failed, 1 interrupted",
    ]
    minimized = leaderboard(ROWS, "val/loss", "minimize", best=0, width=80).splitlines()
    assert minimized[1].split()[:3] == ["*", "1", "0"]


def test_a_leaderboard_has_the_ids_of_runs_where_there_is_room() -> None:
    rows = [{**row, "run": f"{row['number']}abc"} for row in ROWS]
    assert leaderboard(rows, "m", "maximize", best=1, width=80).splitlines()[1].split()[-1] == "1abc"
    assert "abc" not in leaderboard(rows, "m", "maximize", best=1, width=38)


def test_leaderboard_with_equal_last_parts_and_too_many_rows() -> None:
    rows = [
        {"number": n, "value": float(n), "state": "COMPLETE", "params": {"model.size": n, "data.size": n}}
        for n in range(12)
    ]
    text = leaderboard(rows, "m", "maximize", best=11, limit=10)
    assert "model.size" in text and "data.size" in text and "... and 2 more" in text


def test_leaderboard_of_nothing_and_of_nan() -> None:
    assert leaderboard([], "m", "maximize", None) == "0 complete"
    rows = [{"number": n, "value": v, "state": "COMPLETE", "params": {}} for n, v in enumerate([float("nan"), 1.0])]
    assert [line.split()[-2:] for line in leaderboard(rows, "m", "maximize", None).splitlines()[1:3]] == [
        ["1", "1.000"],
        ["0", "nan"],
    ]


def test_leaderboard_in_a_narrow_terminal_breaks_names_then_leaves_out_parameters() -> None:
    params = {"model.learning_rate": 0.1, "model.hidden_sizes": [128, 128, 128], "data.batch_size": 64}
    rows = [{"number": 0, "value": 0.5, "state": "COMPLETE", "params": params}]
    broken = leaderboard(rows, "val/accuracy", "maximize", 0, width=60).splitlines()
    assert len(broken) == 4 and broken[1].split() == ["rank", "trial", "accuracy", "rate", "sizes", "size"]
    assert "sizes" not in leaderboard(rows, "val/accuracy", "maximize", 0, width=36)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.text("ab_/1", max_size=12), min_size=3, max_size=3), min_size=1, max_size=6),
    st.integers(1, 60),
)
def test_a_table_is_as_wide_as_it_may_be_at_most(columns: list[list[str]], width: int) -> None:
    lines = "\n".join(align(columns, width)).split("\n")
    assert max(map(len, lines)) <= max(width, max(map(len, columns[0])))


@pytest.mark.parametrize(("per_second", "text"), [(3.0, "3 trials/s"), (0.5, "30 trials/min"), (1e-3, "3.6 trials/h")])
def test_rates_are_told_in_the_unit_in_which_they_are_above_one(per_second: float, text: str) -> None:
    assert rate_text(per_second) == text


def test_time_is_told_in_two_units_at_most() -> None:
    assert [duration_text(seconds) for seconds in (0.2, 59.6, 61, 3700)] == ["0s", "1m00s", "1m01s", "1h01m"]
