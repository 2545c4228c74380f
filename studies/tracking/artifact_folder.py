"""Artifacts in a local folder, which are read without MLflow: a hundred times as fast."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from studies.common.regular_files import files_in


def local_folder(uri: str) -> Path | None:
    """The local folder of an artifact URI, or None if it is not local."""
    parsed = urlparse(uri)
    if parsed.scheme == "file" and parsed.netloc in ("", "localhost") and not (parsed.query or parsed.fragment):
        return Path(unquote(parsed.path))
    return Path(uri) if not parsed.scheme and os.path.isabs(uri) else None


def local_files(uri: str) -> dict[str, int] | None:
    """Path -> size in bytes of all regular files behind an artifact URI, or None if it is not local."""
    folder = local_folder(uri)
    return None if folder is None else files_in(folder)
