"""Files that are whole or not there: written under a temporary name beside their own, then renamed."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = re.compile(r"\..*\.(\d+)\.tmp(-journal|-wal|-shm)?")


def temporary_name(path: Path) -> Path:
    """A name beside a file (a rename across disks isn't atomic) that says which process writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that whoever reads it finds all of it or the one before."""
    temporary = temporary_name(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_by_link(source: Path, target: Path) -> None:
    """Gives a file a second name, atomically, without copying it.

    Raises:
        OSError: the file system cannot; so it is across disks.
    """
    temporary = temporary_name(target)
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # a rename onto another name of the same file does nothing


def is_temporary(path: Path) -> bool:
    """Whether it has a name that `temporary_name` gives."""
    return _NAME.fullmatch(path.name) is not None


def left_over(folder: Path, deep: bool = True) -> list[Path]:
    """Temporary files in a folder, and below it if `deep`, whose process is gone."""
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("**/.*.tmp*" if deep else ".*.tmp*"))
    return sorted(path for path, match in found if match and not lives(int(match.group(1))))


def lives(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:  # more than any process's number
        return False
    return True
