"""Whether trials run without acceleration: Lightning's own loop, PyTorch's own optimizers, a process for each trial.

HARNESS_PLAIN=1 says so, or `--plain` at the command line, which sets it: trial processes inherit it. Standard library
only.
"""

from __future__ import annotations

import os

VARIABLE = "HARNESS_PLAIN"


def is_plain() -> bool:
    """Whether acceleration is switched off."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def make_plain() -> None:
    """Switches acceleration off, for this process and those that it starts."""
    os.environ[VARIABLE] = "1"
