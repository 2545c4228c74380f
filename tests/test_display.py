import io
import re
from typing import Any

from studies.display import Display, leaderboard

ROWS: list[dict[str, Any]] = [
    {"number": 0, "value": 0.9, "state": "COMPLETE", "params": {"model.lr": 0.00123456, "data.b": 32}},
    {"number": 1, "value": 0.95, "state": "COMPLETE", "params": {"model.lr": 0.1, "data.b": 64}},
    {"number": 2, "value": 0.5, "state": "PRUNED", "params": {"model.lr": 0.2, "data.b": 64}},
    {"number": 3, "value": None, "state": "FAIL", "params": {}},
    {"number": 4, "value": None, "state": "RUNNING", "params": {}},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def study(stream: io.StringIO, total: int = 3) -> Display:
    return Display(title="study s", metric="val/accuracy", direction="maximize", total=total, stream=stream)


def work(display: Display) -> None:
    with display:
        display.phase("importing torch")
        display.trial_started(0, {"model.learning_rate": 0.001234, "data.batch_size": 64})
        display.trial_progress(0, 0, 2, 10, None, {"train/loss": 1.0, "val/accuracy": 0.5})
        display.trial_ended(0, "COMPLETE", 0.9, 1.5)
        display.trial_started(1, {"model.learning_rate": 0.1, "data.batch_size": 32})
        display.trial_ended(1, "PRUNED", 0.2, 0.5)
        display.say("something to [know]")


def test_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    work(study(stream))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "trial 0  started  learning_rate=0.001234 batch_size=64" in text
    ended = next(line for line in text.splitlines() if line.startswith("trial 0  COMPLETE"))
    assert re.search(r"val/accuracy 0.9  best 0.9 \(trial 0\)  1/3  \d+s left  learning_rate", ended)
    assert "trial 1  PRUNED" in text and "best 0.9 (trial 0)  2/3" in text
    assert "something to [know]" in text


def test_a_live_table_in_a_terminal(monkeypatch: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    work(study(stream))
    text = stream.getvalue()
    assert "\x1b" in text and "COMPLETE" in text and "something to [know]" in text


def test_a_terminal_that_cannot_move_the_cursor_gets_plain_lines(monkeypatch: Any) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    work(study(stream))
    assert "\x1b" not in stream.getvalue()


def test_a_single_run_ends_with_its_metrics() -> None:
    stream = io.StringIO()
    with study(stream, total=1) as display:
        display.trial_started(0, {})
        display.trial_progress(0, 1, 2, 20, None, {"val/accuracy": 0.75, "train/learning_rate": 0.1})
        display.trial_ended(0, "COMPLETE", 0.75, 2.0)
    (line,) = stream.getvalue().splitlines()
    assert line == "complete in 2.0 s  val/accuracy 0.75  val/accuracy 0.75"


def test_best_knows_the_direction() -> None:
    display = Display(title="s", metric="m", direction="minimize", total=2, stream=io.StringIO())
    for number, value in enumerate((2.0, 1.0, 3.0)):
        display.trial_ended(number, "COMPLETE", value, 1.0)
    assert display.best is not None and display.best.number == 1


def test_leaderboard() -> None:
    lines = leaderboard(ROWS, "val/accuracy", "maximize", best=1).splitlines()
    assert lines[0].split() == ["rank", "trial", "val/accuracy", "lr", "b"]
    assert lines[1].split() == ["*", "1", "1", "0.95", "0.1", "64"]
    assert lines[2].split() == ["2", "0", "0.9", "0.001235", "32"]
    assert lines[3] == "2 complete, 1 pruned, 1 failed, 1 interrupted"
    minimized = leaderboard(ROWS, "val/loss", "minimize", best=0).splitlines()
    assert minimized[1].split()[:3] == ["*", "1", "0"]


def test_leaderboard_with_equal_last_parts_and_too_many_rows() -> None:
    rows = [
        {"number": n, "value": float(n), "state": "COMPLETE", "params": {"model.size": n, "data.size": n}}
        for n in range(12)
    ]
    text = leaderboard(rows, "m", "maximize", best=11, limit=10)
    assert "model.size" in text and "data.size" in text and "... and 2 more" in text


def test_leaderboard_of_nothing() -> None:
    assert leaderboard([], "m", "maximize", None).splitlines()[-1] == "0 complete"
