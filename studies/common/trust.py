"""Which state folders this user has made on this machine. Those from elsewhere hold data, and no code to run.

A specification in a state folder names classes, folders to import them from, and checkpoints that may be pickles: all
of it runs code. It is followed in a folder that this user's commands have made, and with `--trust`. Standard library
only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from studies.common.atomic_files import write_whole
from studies.common.locks import file_lock

KEPT = 1000  # folders that are remembered
DATABASES = ("mlflow.db", "optuna.db", "trials")  # what a state folder has once it is in use


def _list() -> Path | None:
    """The list of this user's own state folders, a line each: inode and path. None without a home folder."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").expanduser()
    except RuntimeError:
        return None
    return state / "harness" / "own-state-folders"


def _known() -> list[tuple[int, str]]:
    path = _list()
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path else []
    except (OSError, UnicodeDecodeError):
        return []
    parts = [line.partition(" ") for line in lines]
    return [(int(inode), folder) for inode, _, folder in parts if inode.isdigit()]


def make_own(folder: Path) -> None:
    """Makes a state folder, and remembers it as this user's own if it was not in use before."""
    is_new = not any((folder / name).exists() for name in DATABASES)
    folder.mkdir(parents=True, exist_ok=True)
    if is_new:
        remember(folder)


def remember(folder: Path) -> None:
    """Trusts a state folder from now on: this user has made it, or says so by `--trust`."""
    path = _list()
    if path is None or "\n" in str(folder):
        return
    # Where the home folder cannot be written, --trust is needed each time.
    with contextlib.suppress(OSError), file_lock(path.with_suffix(".lock")):
        entry = (folder.stat().st_ino, str(folder.resolve()))
        entries = [*(item for item in _known() if item != entry), entry][-KEPT:]
        write_whole(path, "".join(f"{inode} {name}\n" for inode, name in entries))


def is_own(folder: Path) -> bool:
    """Whether this user has made a state folder, or trusts it. A copy is another folder, a moved one the same."""
    try:
        inode, name = folder.stat().st_ino, str(folder.resolve())
    except OSError:
        return False
    return any(known == inode and (path == name or not os.path.exists(path)) for known, path in _known())


def check_own(folder: Path, what: str) -> None:
    """Refuses to run the code that a state folder from elsewhere names.

    Args:
        what: to do it, such as "to extend its trials".

    Raises:
        ValueError: in one line: it is not this user's own.
    """
    if not is_own(folder):
        raise ValueError(
            f"{folder} was not made by you on this machine, and {what} runs the code that they name: give --trust if "
            "you trust who made it"
        )


def contains(folder: Path, path: Path) -> bool:
    """Whether a path, its links followed, is a folder or something in it."""
    return path.resolve().is_relative_to(folder.resolve())


def leads_out(folder: Path, of: Path) -> bool:
    """Whether a folder, or a link in it, leads out of another one."""
    links = (path for path in folder.rglob("*") if path.is_symlink())
    return not (contains(of, folder) and all(contains(of, path) for path in links))
