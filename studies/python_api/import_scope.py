"""Imports a run's classes into a process that may have other modules of the same names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from studies.common.sources import class_paths_in


@contextlib.contextmanager
def import_scope(sections: dict[str, Any], folders: Sequence[str]) -> Iterator[None]:
    """Within it, modules that the sections' classes are in come from the folders; afterwards all is as before.

    Two runs may have modules of one name: of two folders, or of two states of a notebook.

    Args:
        sections: an experiment's.
        folders: its search path.
    """
    path, before = list(sys.path), dict(sys.modules)
    for name in {class_path.partition(".")[0] for class_path in class_paths_in(sections)}:
        spec = PathFinder.find_spec(name, list(folders))
        loaded = sys.modules.get(name)
        if spec is not None and loaded is not None and spec.origin != _origin(loaded):
            for module in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[module]
    try:
        yield
    finally:
        sys.path[:] = path
        replaced = {name: module for name, module in before.items() if sys.modules.get(name) is not module}
        sys.modules.update(replaced)


def _origin(module: ModuleType) -> str | None:
    return getattr(getattr(module, "__spec__", None), "origin", None)
