"""Names and integrity of a trial's checkpoint files. Needs no torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

FOLDER = "checkpoints"
BEST = "best.ckpt"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the previous last.ckpt, in case the newest is lost


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is complete and uncorrupted.

    A checkpoint is a zip file with a checksum for each part. torch.load does not verify them, so it does not notice a
    flipped bit in a weight.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return bool(file.namelist()) and file.testzip() is None
    except Exception:  # a corrupted file may raise anything
        return False


def newest_checkpoint(folder: Path) -> str | None:
    """The checkpoint to resume a folder's trial from, or None to start over."""
    for name in (LAST, PREVIOUS):
        path = folder / FOLDER / name
        if path.exists():
            return str(path)
    return None
