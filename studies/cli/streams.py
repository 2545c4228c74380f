"""Standard streams that may be closed, deserted or of ASCII, and how the command leaves Python."""

from __future__ import annotations

import gc
import os
import select
import sys
import warnings
from typing import TextIO

# Python's own, of what is of no use to users.
UNSEEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def let_libraries_warn() -> None:
    """Where all warnings shall be errors, that is for the user's code, which runs in other processes."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.resetwarnings()
        for category in UNSEEN_WARNINGS:
            warnings.simplefilter("ignore", category)


def prepare_streams() -> None:
    """Whatever is to be printed can be: a stream that is closed takes it, and so does one of ASCII."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def let_go_of(stream: TextIO) -> bool:
    """Turns a stream that cannot be written to where all goes, for Python writes what is left of it at its end.

    Returns:
        Whether it is a pipe that nobody reads any more.
    """
    try:
        stream.flush()
        deserted = is_deserted(stream)
    except OSError as error:
        deserted = isinstance(error, BrokenPipeError)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return deserted


def is_deserted(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # a stream of Python's alone, or closed
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def leave() -> None:
    """Spares Python from looking at all that was imported once more before it ends: a second."""
    if "torch" not in sys.modules:  # what comes with it (nanobind) would take that for leaks, and say so
        gc.freeze()
