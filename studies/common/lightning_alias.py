"""Makes `import lightning` find pytorch_lightning: code written for either package runs, with the same classes.

`lightning.pytorch` and `lightning.fabric`, with all submodules, become the modules of pytorch_lightning and
lightning_fabric themselves, so `isinstance` and pickles agree. This applies even if lightning is installed, since
pytorch_lightning's Trainer cannot train a module of its classes. Standard library only; nothing is imported early.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

TOP = "lightning"
PACKAGES = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}


def install() -> None:
    """Installs the alias in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == TOP:
            return None if _is_a_users_own() else ModuleSpec(TOP, _TopLoader(), is_package=True)
        real = _real_name(fullname)
        if real is None or not isinstance(getattr(sys.modules.get(TOP), "__loader__", None), _TopLoader):
            return None
        found = importlib.util.find_spec(real)
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, _Alias(real), origin=found.origin, is_package=is_package)


def _real_name(fullname: str) -> str | None:
    for alias, package in PACKAGES.items():
        if fullname == alias or fullname.startswith(f"{alias}."):
            return package + fullname.removeprefix(alias)
    return None


def _is_a_users_own() -> bool:
    """Whether `lightning` is an unrelated file or folder of the user's."""
    found = PathFinder.find_spec(TOP)
    if found is None:
        return False
    folders = [Path(folder) for folder in found.submodule_search_locations or []]
    if found.loader is None and not any([*folder.glob("*.py"), *folder.glob("*/*.py")] for folder in folders):
        return False  # a folder without code, e.g. of results
    return not any((folder / "pytorch").is_dir() and (folder / "fabric").is_dir() for folder in folders)


class _TopLoader(Loader):
    """Creates the package `lightning`: the names of its own __init__, and only these two subpackages."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        pytorch = importlib.import_module("pytorch_lightning")
        fabric = importlib.import_module("lightning_fabric")
        for name in pytorch.__all__:
            setattr(module, name, getattr(pytorch, name))
        module.__doc__ = pytorch.__doc__
        for name, value in {"Fabric": fabric.Fabric, "__version__": pytorch.__version__}.items():
            setattr(module, name, value)
        module.__all__ = [*pytorch.__all__, "Fabric"]  # type: ignore[attr-defined]
        for alias in PACKAGES:  # as in the real package
            importlib.import_module(alias)


class _Alias(Loader):
    """Gives an existing module a second name."""

    def __init__(self, real: str) -> None:
        self._real = real
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has replaced it with the alias's spec
