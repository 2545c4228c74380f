"""Artifacts in a local folder, which are read without MLflow: a hundred times as fast."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import unquote, urlparse


def local_folder(uri: str) -> Path | None:
    """The local folder of an artifact URI, or None if it is not local."""
    parsed = urlparse(uri)
    if parsed.scheme == "file" and parsed.netloc in ("", "localhost") and not (parsed.query or parsed.fragment):
        return Path(unquote(parsed.path))
    return Path(uri) if not parsed.scheme and os.path.isabs(uri) else None


def local_files(uri: str) -> dict[str, int] | None:
    """Path -> size in bytes of all files behind an artifact URI, or None if it is not local."""
    folder = local_folder(uri)
    return None if folder is None else _sizes(folder, "")


def _sizes(folder: str | Path, prefix: str) -> dict[str, int]:
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found |= _sizes(entry.path, f"{prefix}{entry.name}/")
            else:
                with contextlib.suppress(OSError):  # a link to nowhere
                    found[prefix + entry.name] = entry.stat().st_size
    return found
