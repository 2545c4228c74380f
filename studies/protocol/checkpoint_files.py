"""Names and integrity of a trial's checkpoint files. Needs no torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

from studies.common.regular_files import open_regular

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
        with open_regular(path) as opened, zipfile.ZipFile(opened) as file:
            return bool(file.namelist()) and _is_stored(file) and file.testzip() is None
    except Exception:  # a corrupted file may raise anything
        return False


def check_stored(path: Path) -> None:
    """Checks that a checkpoint is no larger in memory than on the disk: PyTorch writes its parts uncompressed.

    Raises:
        ValueError: in one line: it is no checkpoint, or its parts are compressed and may have any size.
    """
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as file:
            if _is_stored(file):
                return
        why = "its parts are compressed"
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        why = " ".join(str(error).split())
    raise ValueError(f"{path} is not a checkpoint of PyTorch: {why}")


def _is_stored(file: zipfile.ZipFile) -> bool:
    parts = file.infolist()
    return all(part.compress_type == zipfile.ZIP_STORED and part.file_size == part.compress_size for part in parts)


def newest_checkpoint(folder: Path) -> str | None:
    """The checkpoint to resume a folder's trial from, or None to start over."""
    for name in (LAST, PREVIOUS):
        path = folder / FOLDER / name
        if path.exists():
            return str(path)
    return None
