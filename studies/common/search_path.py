"""Sets where classes are imported from: the user's own folders first. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

OURS = ("lightning_modules", "datamodules")  # packages of the harness whose names users may have, too


def use(folders: Iterable[str]) -> None:
    """Puts a user's folders first on sys.path, and the current folder last.

    If one of them has a package with the name of one of ours, the user's is imported from now on, even without an
    __init__.py. Only the name `studies` is reserved.
    """
    first = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    if sys.path[: len(first)] != first:
        sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    for name in OURS:
        theirs = next((Path(folder, name) for folder in first if _has(folder, name)), None)
        if theirs is None:
            continue
        loaded = sys.modules.get(name)
        if loaded is not None and not _is_from(loaded, theirs):
            for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[key]
        if name not in sys.modules and _is_plain_folder(theirs):
            # Python prefers a package with an __init__.py, ours, wherever it is on sys.path.
            sys.modules[name] = _package(theirs)
    importlib.invalidate_caches()


def _has(folder: str, name: str) -> bool:
    package = Path(folder, name)
    return package.with_suffix(".py").is_file() or any([*package.glob("*.py"), *package.glob("*/*.py")])


def _is_plain_folder(package: Path) -> bool:
    return not (package / "__init__.py").is_file() and not package.with_suffix(".py").is_file()


def _package(folder: Path) -> ModuleType:
    spec = ModuleSpec(folder.name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return importlib.util.module_from_spec(spec)


def _is_from(module: ModuleType, package: Path) -> bool:
    """Whether a module was loaded from that package folder, or from the .py file of that name."""
    file = getattr(module, "__file__", None)
    places = [Path(file).parent] if file is not None else [Path(place) for place in module.__path__]
    return any(place.resolve() in (package.resolve(), package.parent.resolve()) for place in places)
