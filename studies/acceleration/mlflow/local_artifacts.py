"""Where a run's artifacts lie in a folder of this machine, and how a trial's files come there. Standard library only.

MLflow's client looks the run up in its database for each call, and copies. Here the folder is known, and a checkpoint,
which may be large and is never written again under its name (checkpointing.py), gets a second name instead of
a copy: no time, and no room on the disk.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from studies.common.atomic_files import is_temporary, replace_by_link, temporary_name

NEVER_REWRITTEN = {".ckpt"}


def place(source: Path, folder: Path) -> None:
    """Puts a file, or all that a folder holds, into a folder of artifacts; each file appears whole.

    A folder that is not there yet is made. Of an absent source nothing comes, nor of what is being written just now or
    goes away meanwhile: a trial may be at work in the folder.
    """
    if source.is_dir():
        for item in source.iterdir():
            place(item, folder / item.name if item.is_dir() else folder)
    elif source.exists() and not is_temporary(source):
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        if source.suffix in NEVER_REWRITTEN:
            with contextlib.suppress(OSError):  # another disk, or one without second names: a copy then
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
    """Whether a file was copied after it was last changed."""
    try:
        there, here = target.stat(), source.stat()
    except OSError:
        return False
    return there.st_size == here.st_size and there.st_mtime_ns > here.st_mtime_ns
