"""Makes standard streams robust (closed, broken pipe, ASCII), and exits Python quickly."""

from __future__ import annotations

import gc
import os
import select
import sys
import warnings
from typing import TextIO

from studies.common.text import visible

# Warnings of libraries that are of no use to users.
UNSEEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def let_libraries_warn() -> None:
    """If warnings are set to be errors, limits that to user code, which runs in other processes."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.resetwarnings()
        for category in UNSEEN_WARNINGS:
            warnings.simplefilter("ignore", category)


def prepare_streams() -> None:
    """Makes printing always possible, even to a closed or ASCII-only stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def show(text: str = "", file: TextIO | None = None) -> None:
    """Prints a text of which parts may come from anybody; see visible."""
    print(visible(text), file=file, flush=file is None)


def redirect_if_broken(stream: TextIO) -> bool:
    """Redirects a stream that cannot be written to /dev/null, since Python flushes it at exit.

    Returns:
        Whether it is a pipe without a reader.
    """
    try:
        stream.flush()
        broken = has_no_reader(stream)
    except OSError as error:
        broken = isinstance(error, BrokenPipeError)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return broken


def has_no_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe without a reader."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # no file descriptor, or closed
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def leave() -> None:
    """Skips Python's final garbage collection of everything imported, which takes a second."""
    if "torch" not in sys.modules:  # nanobind, a dependency of torch, would report leaks
        gc.freeze()
