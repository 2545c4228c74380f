"""The live display in a real terminal that is resized: tmux, whose screen a test can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_helpers import HARNESS, TOY, Workspace, eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

WIDTHS = (120, 50, 80, 200, 60, 50, 150, 70, 52, 200, 90)
DRAW = """
import sys, time
from pathlib import Path
from studies.console.progress import Display
with Display(title="study demo", metric="val/accuracy", direction="maximize", total=30) as display:
    for number in range(6):
        params = {"model.rate": 0.1, "model.sizes": [128, 64, 32], "data.batch_size": 64, "model.decay": 0.001}
        display.trial_started(number, params)
        display.trial_progress(number, 0, 8, 10, 100, {"val/accuracy": 0.5})
        if number < 4:
            display.trial_ended(number, "COMPLETE", 0.9, 3.0)
    said = 0
    while not Path(sys.argv[1]).exists():
        time.sleep(0.05)
        if Path(f"{sys.argv[1]}.{said}").exists():
            display.say(f"permanent line {said}")
            said += 1
print("the end")
"""


class Tmux:
    """A terminal of 30 rows.

    Args:
        command: what runs in it, by sh.
    """

    def __init__(self, folder: Path, command: str, environment: dict[str, str] | None = None) -> None:
        self._tmux = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]
        start = ["new-session", "-d", "-x", "200", "-y", "30", f"{command}; echo exit $?; sleep 600"]
        stale = {"COLUMNS": "80", "LINES": "24"}  # as some programs export them
        subprocess.run([*self._tmux, *start], check=True, env={**(environment or os.environ), **stale}, cwd=folder)

    def resize(self, width: int) -> None:
        subprocess.run([*self._tmux, "resize-window", "-x", str(width)], check=True)

    @property
    def screen(self) -> list[str]:
        """The lines on the screen that are not empty."""
        return self._captured()

    @property
    def history(self) -> list[str]:
        """The same, with those that have scrolled away."""
        return self._captured("-S", "-")

    def _captured(self, *options: str) -> list[str]:
        command = [*self._tmux, "capture-pane", "-p", *options]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        return [line.rstrip() for line in shown.stdout.splitlines() if line.strip()]

    def until(self, text: str, seconds: float = 90) -> None:
        assert eventually(lambda: text in "\n".join(self.screen), seconds), self.screen

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)


@pytest.fixture
def terminals() -> Iterator[list[Tmux]]:
    opened: list[Tmux] = []
    yield opened
    for terminal in opened:
        terminal.end()


def is_one_table(shown: list[str], width: int, complete: int, running: int) -> bool:
    """Whether a screen has one table with so many trials, drawn for its width."""
    heads = sum(line.startswith("trial  epoch") for line in shown)
    counts = [sum(f" {word}" in f"{line} " for line in shown) for word in ("complete ", "running ")]
    return heads == 1 and counts == [complete, running] and max(map(len, shown)) <= width


@pytest.mark.parametrize("filled", [0, 40])
def test_resizing_leaves_one_table_and_every_line(tmp_path: Path, terminals: list[Tmux], filled: int) -> None:
    (tmp_path / "draw.py").write_text(DRAW)
    end = tmp_path / "end"
    command = f"seq 1 {filled}; cd {Path(__file__).parents[2]}; {sys.executable} {tmp_path / 'draw.py'} {end}"
    terminal = Tmux(tmp_path, command)
    terminals.append(terminal)
    terminal.until("best 0.9000")
    for count, width in enumerate(WIDTHS):
        terminal.resize(width)
        assert eventually(lambda width=width: is_one_table(terminal.screen, width, 4, 2), 20), (
            width,
            "\n".join(terminal.screen),
        )
        Path(f"{end}.{count}").touch()
        terminal.until(f"permanent line {count}")
        assert sum("best 0.9000" in line for line in terminal.screen) == 1, (width, "\n".join(terminal.screen))
    everything = terminal.history
    assert sum("best 0.9000" in line for line in everything) == 1, "no parts of older tables have scrolled away"
    assert [line for line in everything if line.startswith("permanent")] == [
        f"permanent line {count}" for count in range(len(WIDTHS))
    ]
    end.touch()
    terminal.until("exit 0")
    shown = terminal.screen
    assert shown[-2:] == ["the end", "exit 0"] and shown[-3] == f"permanent line {len(WIDTHS) - 1}"
    assert not any("complete" in line or "best" in line for line in shown)


@pytest.mark.slow
def test_a_study_whose_terminal_is_resized(tmp_path: Path, terminals: list[Tmux]) -> None:
    workspace = Workspace(tmp_path)
    command = f"{HARNESS} study {TOY} --trials 2 --workers 2 --model.seconds 0.5 --trainer.max_epochs 12 --no-test"
    terminal = Tmux(tmp_path, command, workspace.environment)
    terminals.append(terminal)
    terminal.until(" running ")
    for width in WIDTHS:
        terminal.resize(width)
        assert eventually(lambda width=width: is_one_table(terminal.screen, width, 0, 2), 20), (
            width,
            "\n".join(terminal.screen),
        )
    terminal.until("exit 0")
    assert sum(" running " in line for line in terminal.screen) == 0
    assert "study  toy  finished" in "\n".join(terminal.screen)
