"""Where classes are imported from: the user's own folders first. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

OURS = ("lightning_modules", "datamodules")  # packages that come with the harness, under names that users have too


def use(folders: Iterable[str]) -> None:
    """Puts a user's folders first on sys.path, and the current folder last.

    Where one of them has a package of the name of one of ours, the user's is the one that is imported from now on. Only
    `studies` is ours alone.
    """
    first = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    if sys.path[: len(first)] != first:
        sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    for name in OURS:
        loaded = sys.modules.get(name)
        if loaded is not None and any(_has(folder, name) and not _is_from(loaded, folder) for folder in first):
            for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[key]
    importlib.invalidate_caches()


def _has(folder: str, name: str) -> bool:
    return Path(folder, name).is_dir() or Path(folder, f"{name}.py").is_file()


def _is_from(module: object, folder: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(Path(folder).resolve())
