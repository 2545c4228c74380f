"""Whether trials run without acceleration: Lightning's own loop, PyTorch's own optimizers, one process per trial.

Set by HARNESS_PLAIN=1, which trial processes inherit; the option `--plain` sets that. Standard library only.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

VARIABLE = "HARNESS_PLAIN"


def is_plain() -> bool:
    """Whether acceleration is switched off."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def acceleration() -> Any | None:
    """The package of faster parts (studies/acceleration/); None if it is switched off or was removed."""
    if is_plain():
        return None
    try:
        return importlib.import_module("studies.acceleration")
    except ModuleNotFoundError:
        return None


@contextmanager
def made_plain(wanted: bool) -> Iterator[None]:
    """Switches acceleration off within the block, if `wanted`, for this process and its children."""
    before = os.environ.get(VARIABLE)
    if wanted:
        os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if wanted and before is None:
            del os.environ[VARIABLE]
        elif wanted and before is not None:
            os.environ[VARIABLE] = before
