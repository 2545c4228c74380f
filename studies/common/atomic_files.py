"""Atomic files: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = re.compile(r"\..*\.(\d+)\.tmp(-journal|-wal|-shm)?")


def temporary_name(path: Path) -> Path:
    """A temporary name in the same folder (renames across disks aren't atomic) that contains the writer's pid."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically, text as UTF-8: readers see the old or the new contents."""
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_by_link(source: Path, target: Path) -> None:
    """Atomically hard-links a file to a second name.

    Raises:
        OSError: the file system does not support it, or the names are on different disks.
    """
    temporary = temporary_name(target)
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing


def is_temporary(path: Path) -> bool:
    """Whether the name comes from `temporary_name`."""
    return _NAME.fullmatch(path.name) is not None


def left_over(folder: Path, deep: bool = True) -> list[Path]:
    """Temporary files in a folder (recursively if `deep`) whose process no longer exists."""
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("**/.*.tmp*" if deep else ".*.tmp*"))
    return sorted(path for path, match in found if match and not lives(int(match.group(1))))


def lives(pid: int) -> bool:
    """Whether a process with this pid exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:  # larger than any pid
        return False
    return True
