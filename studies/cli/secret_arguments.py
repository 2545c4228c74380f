"""Keeps secrets of the command line out of process lists, and out of what an unexpected error prints."""

from __future__ import annotations

import json
import os
import sys
import traceback
from types import TracebackType

from studies.common.redaction import without_secrets
from studies.common.text import visible

PIPE = "HARNESS_ARGUMENTS"  # variable: file descriptor from which the real arguments are read
CAPACITY = 60_000  # bytes that any pipe takes without a reader


def hide_secrets() -> None:
    """Starts this command again with *** for what is secret in its arguments, which it then reads from a pipe.

    `ps` shows any user a process's arguments. The process stays the same, and so does the experience of whoever
    started it; there is a moment at its start in which the arguments can still be seen.
    """
    sys.excepthook = _print_redacted
    descriptor = os.environ.pop(PIPE, "")
    if descriptor:
        with open(int(descriptor), encoding="ascii") as pipe:
            sys.argv[1:] = json.load(pipe)
        return
    arguments = sys.argv[1:]
    shown = without_secrets(arguments)
    stored = json.dumps(arguments)
    if shown == arguments or len(stored) > CAPACITY or sys.orig_argv[-len(arguments) :] != arguments:
        return
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as pipe:
        pipe.write(stored)
    os.set_inheritable(reader, True)
    os.environ[PIPE] = str(reader)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1 : -len(arguments)], *shown])


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(visible(text), end="", file=sys.stderr)
