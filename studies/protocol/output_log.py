"""A trial's log.txt, which gets everything that its process prints."""

from __future__ import annotations

import errno
from pathlib import Path

from studies.common.regular_files import open_to_append

NAME = "log.txt"


def output_log(folder: str | Path) -> Path:
    """The path of a trial's log.txt: among its artifacts, so that MLflow's UI shows it during training.

    Args:
        folder: the trial's. In those of older versions, log.txt is not among the artifacts.
    """
    older = Path(folder) / NAME
    return older if older.exists() else Path(folder) / "artifacts" / NAME


def open_output_log(folder: str | Path) -> int:
    """The descriptor of a trial's log.txt, at whose end is written what is printed.

    Raises:
        OSError: it is a link or no regular file, its folder is a link, or it cannot be written.
    """
    path = output_log(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.is_symlink():
        raise OSError(errno.EINVAL, "it is a link", str(path.parent))
    return open_to_append(path)
