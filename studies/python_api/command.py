"""Runs a `harness` command in a process of its own, and shows its progress where the caller can see it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studies.common.errors import WorkFailed
from studies.console.frames import FRAMES
from studies.python_api.notebook import NotebookDisplay, is_notebook

ARGUMENTS = "HARNESS_CALL"  # variable: two file descriptors: the arguments, and one that closes with the caller
OURS = Path(__file__).resolve().parents[2]


def run(arguments: list[str]) -> dict[str, Any]:
    """Runs `harness ARGUMENTS --json`; returns its answer.

    Its progress is shown as on the command line: on the terminal, in a notebook's cell, or in lines on stderr.

    Raises:
        ValueError: bad input, in the command's one line.
        WorkFailed: the work failed.
        KeyboardInterrupt: it was interrupted, and has ended as after Ctrl-C.
    """
    with tempfile.TemporaryFile() as stdout:
        status = _run([*arguments, "--json"], stdout)
        stdout.seek(0)
        *printed, last = stdout.read().decode("utf-8", errors="replace").rstrip("\n").split("\n")
    for line in printed:
        print(line)
    if status in (130, 143):
        raise KeyboardInterrupt
    try:
        answer: dict[str, Any] = json.loads(last)
    except ValueError:
        raise WorkFailed(f"harness {arguments[0]} died with exit status {status}: {last}") from None
    if answer.get("failure"):
        raise WorkFailed(answer["failure"])
    if "error" in answer:
        line = "; ".join(filter(None, (answer["error"], answer["hint"])))
        raise (ValueError if status == 2 else WorkFailed)(line)
    return {**answer, "exit_status": status}


def _run(arguments: list[str], stdout: Any) -> int:
    """Runs it to its end and returns the exit status.

    The arguments go through a pipe, since process lists would show them. Another pipe, which is never written, closes
    with this process: the command then ends as if interrupted, so a notebook's dead kernel leaves nothing behind.
    """
    display = NotebookDisplay() if is_notebook() else None
    on_terminal = display is None and sys.stderr is sys.__stderr__
    arguments_from, arguments_to = os.pipe()
    lifeline, held = os.pipe()
    environment = {**os.environ, ARGUMENTS: f"{arguments_from} {lifeline}", "PYTHONPATH": _python_path()}
    if display is not None:
        environment[FRAMES] = "1"
    in_foreground = on_terminal and sys.stderr.isatty()  # Ctrl-C reaches the whole foreground group
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "studies.python_api.called_command"],
            stdout=stdout,
            stderr=None if on_terminal else subprocess.PIPE,
            env=environment,
            pass_fds=(arguments_from, lifeline),
            start_new_session=not in_foreground,
        )
        with open(arguments_to, "w", encoding="utf-8") as pipe:
            os.close(arguments_from)
            json.dump(arguments, pipe)
        show = display.line if display is not None else _print
        return _until_ended(process, show, in_foreground)
    finally:
        os.close(lifeline)
        os.close(held)
        if display is not None:
            display.close()


def _until_ended(process: subprocess.Popen[bytes], show: Callable[[str], None], in_foreground: bool) -> int:
    """Shows its lines until it ends; passes interrupts on, and waits for the orderly end that follows."""
    lines = _lines(process)
    while True:
        try:
            for line in lines:
                show(line)
            return process.wait()
        except KeyboardInterrupt:
            if not in_foreground:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            lines = _lines(process)  # an interrupted generator has ended


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    for line in process.stderr or ():
        yield line.decode("utf-8", errors="replace").rstrip("\n")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _python_path() -> str:
    """Where this process imports modules from, besides installed packages: classes are found there."""
    installed = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), OURS}
    folders = [Path(entry or os.curdir).resolve() for entry in sys.path]
    own = [
        str(folder)
        for folder in folders
        if folder.is_dir() and folder != OURS and not any(folder.is_relative_to(place) for place in installed - {OURS})
    ]
    return os.pathsep.join(dict.fromkeys([*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
