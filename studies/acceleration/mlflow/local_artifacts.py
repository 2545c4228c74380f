"""Puts a trial's files into a run's local artifact folder. Standard library only.

MLflow's client queries its database for each call, and copies. Here the folder is known, and checkpoints, which may be
large and are never modified in place (checkpointing.py), are hard-linked instead of copied, which takes neither time
nor disk space.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from studies.common.atomic_files import is_temporary, replace_by_link, temporary_name

NEVER_REWRITTEN = {".ckpt"}


def place(source: Path, folder: Path) -> None:
    """Puts a file, or the contents of a folder, into an artifact folder; each file appears atomically.

    Missing folders are created. A missing source, temporary files and files that disappear meanwhile are ignored, since
    a trial may be writing to the folder.
    """
    if source.is_dir():
        for item in source.iterdir():
            place(item, folder / item.name if item.is_dir() else folder)
    elif source.is_file() and not is_temporary(source):  # no pipe or device, which has no end
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        if source.suffix in NEVER_REWRITTEN:
            with contextlib.suppress(OSError):  # another disk, or no hard links: copy instead
                replace_by_link(source, target)
                return
        if _is_there(source, target):
            return
        temporary = temporary_name(target)
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        except FileNotFoundError:
            if source.exists():
                raise
        finally:
            temporary.unlink(missing_ok=True)


def _is_there(source: Path, target: Path) -> bool:
    """Whether the copy is newer than the file."""
    try:
        there, here = target.stat(), source.stat()
    except OSError:
        return False
    return there.st_size == here.st_size and there.st_mtime_ns > here.st_mtime_ns
