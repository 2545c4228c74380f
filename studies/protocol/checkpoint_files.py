"""The checkpoint files of a trial's folder, as files: their names, and whether they are whole. Needs no torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

FOLDER = "checkpoints"
BEST = "best.ckpt"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # last.ckpt, as it was before: should the disk lose the newest


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is complete and every byte of its contents is as it was written.

    A checkpoint is a zip file, which has a checksum of each of its parts. torch.load does not look at them: a
    flipped bit in a weight passes it.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return bool(file.namelist()) and file.testzip() is None
    except Exception:  # an altered byte may raise anything at all
        return False


def newest_checkpoint(folder: Path) -> str | None:
    """Where the trial of a folder can go on, or None to start it again."""
    for name in (LAST, PREVIOUS):
        path = folder / FOLDER / name
        if path.exists():
            return str(path)
    return None
