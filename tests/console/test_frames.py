"""The live display of a command whose caller draws it."""

import io
import json
import time

import pytest

from studies.console.frames import FRAMES, SEPARATOR
from studies.console.progress import Display


def test_frames_and_permanent_lines_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FRAMES, "1")
    stream = io.StringIO()
    with Display(title="study toy", metric="val/loss", direction="minimize", total=2, stream=stream) as display:
        display.trial_started(0, {"model.learning_rate": 0.1})
        display.trial_progress(0, 1, 3, 20, None, {"val/loss": 0.25})
        display.say("a permanent line")
        until = time.monotonic() + 30
        while SEPARATOR not in stream.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    lines = stream.getvalue().split("\n")  # splitlines splits at the separator, too
    frames = [json.loads(line[1:]) for line in lines if line.startswith(SEPARATOR)]
    assert "a permanent line" in lines
    shown = "\n".join(text for text, _ in frames[0])
    assert "study toy  0/2" in shown and "0.25" in shown and "2/3" in shown
    assert frames[-1] == [], "it disappears at the end"
