"""Control characters in names, parameters, errors and logs are shown on a terminal, and never sent to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from studies.cli.main import main
from studies.common.text import visible
from studies.console.progress import Display

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\r"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_no_control_character_is_left_and_nothing_else_is_changed(text: str) -> None:
    shown = visible(text)
    assert not CONTROL.search(shown)
    assert (
        shown.startswith(text) or CONTROL.search(text) or any(item in text for item in "\u061c\u200e\u200f\u2028\u2029")
    )


def test_lines_and_tabs_stay() -> None:
    assert visible("a\n\tb\u00e9\U0001f600") == "a\n\tb\u00e9\U0001f600"
    assert visible("\x1b[31m\x9b\u202e") == "\\x1b[31m\\x9b\\u202e"


@pytest.mark.parametrize("live", [True, False])
def test_a_display_shows_them(live: bool, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(title=f"study {EVIL}", metric=f"m{EVIL}", direction="maximize", total=1, live=False)
    with display:
        display.say(EVIL)
        display.phase(EVIL)
        display.trial_started(0, {"model.x": EVIL})
        display.trial_progress(0, 1, 2, 3, 4, {f"m{EVIL}": 1.0})
        if live:
            parts = [line for line, _ in display._picture(80, 24)]
            assert parts and not any(CONTROL.search(part) for part in parts)
        display.trial_ended(0, "FAIL", None, 1.0)
    captured = capsys.readouterr()
    assert not CONTROL.search(captured.err + captured.out) and "\\x1b" in captured.err


@pytest.mark.parametrize("command", [["runs"], ["compare", "RUN", "RUN2"], ["doctor"]])
def test_commands_show_them(home: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    client: Any = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    experiment = client.create_experiment(f"e{EVIL}")
    ids = []
    for value in ("1", "2"):
        tags = {"harness.kind": "trial", "harness.study": f"s{EVIL}", "harness.trial": f"0{EVIL}"}
        run_id = client.create_run(experiment, run_name=f"n{EVIL}", tags=tags).info.run_id
        client.log_param(run_id, "p", value + EVIL)
        ids.append(run_id)
    names = dict(zip(("RUN", "RUN2"), ids, strict=True))
    main([names.get(item, item) for item in command])
    captured = capsys.readouterr()
    assert not CONTROL.search(captured.out + captured.err) and "\\x1b" in captured.out


def test_errors_show_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["train", f"no{EVIL}"], ["predict", f"no{EVIL}", "x"], [f"no{EVIL}"], ["runs", f"--{EVIL}"]):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert not CONTROL.search(captured.err + captured.out), arguments
