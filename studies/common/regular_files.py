"""Opens files of a state folder, in which anybody may have put something else: a pipe, a device, a link.

Opening a named pipe would wait forever, a device would have no end, and what is written through a link would be
written elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import IO

LARGEST_TEXT = 100_000_000  # bytes of a specification or another small file


def open_regular(path: str | Path) -> IO[bytes]:
    """Opens a regular file, or a link to one, for reading.

    Raises:
        OSError: as open does, and if it is anything but a regular file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link to itself, a socket
            raise OSError(errno.EINVAL, "it is no regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(file, "rb")


def read_text(path: str | Path, most: int = LARGEST_TEXT) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is not UTF-8, or larger than `most` bytes.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return content.decode("utf-8")


def files_in(folder: str | Path, prefix: str = "") -> dict[str, int]:
    """Path -> size in bytes of all regular files in a folder; links are neither listed nor followed."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found |= files_in(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                found[prefix + entry.name] = entry.stat().st_size
    return found


def open_to_append(path: str | Path, flags: int = os.O_WRONLY) -> int:
    """The descriptor of a file that is created if missing; what is written goes to its end.

    Raises:
        OSError: it is a link or no regular file, or cannot be written.
    """
    flags |= os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(errno.EINVAL, "it is a link, or no regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file
