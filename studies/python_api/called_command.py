"""`python -m studies.python_api.called_command`: a `harness` command that is called from Python; see command.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from studies.cli.main import main
from studies.python_api.command import ARGUMENTS


def called() -> int:
    """Runs the command with the arguments from the pipe."""
    arguments, lifeline = map(int, os.environ.pop(ARGUMENTS).split())
    with open(arguments, encoding="utf-8") as pipe:
        sys.argv = ["harness", *json.load(pipe)]
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_end_with_caller, args=(lifeline,), name="caller", daemon=True).start()
    return main()


def _end_with_caller(lifeline: int) -> None:
    """Interrupts this process once its caller is gone."""
    os.read(lifeline, 1)  # nothing is ever written: it returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(called())
