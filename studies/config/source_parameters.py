"""The parameters of a class, read from its source without importing it: importing torch takes seconds.

For suggestions only: what a class really takes is what jsonargparse finds in its signature.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from studies.common.regular_files import read_text

LARGEST = 2_000_000  # bytes of a source file
DEEPEST = 12  # steps of imports and base classes that are followed
ENOUGH = ("LightningModule", "LightningDataModule", "Module", "Optimizer", "object")  # bases without parameters of use


def parameters_in_source(class_path: str, folders: Sequence[str]) -> list[str]:
    """Names of the parameters of a class's constructor, in its order, with those of its bases if it passes them on.

    Args:
        class_path: dotted, such as lightning_modules.MLP.
        folders: where to look for its module first, in order; then, where Python would.

    Returns:
        [] if its source is not found or is no Python.
    """
    module, _, name = class_path.rpartition(".")
    return list(dict.fromkeys(_parameters(module, name, tuple(folders), DEEPEST))) if module else []


def _parameters(module: str, name: str, folders: tuple[str, ...], depth: int) -> Iterator[str]:
    tree = _tree(module, folders)
    if tree is None or depth == 0 or name in ENOUGH:
        return
    found = _defined(tree, name)
    if isinstance(found, ast.ClassDef):
        init = next(
            (item for item in found.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
        )
        if init is not None:
            arguments = init.args
            yield from (item.arg for item in [*arguments.posonlyargs, *arguments.args][1:])
            yield from (item.arg for item in arguments.kwonlyargs)
        if init is None or init.args.kwarg is not None:
            for base in found.bases:
                if isinstance(base, ast.Name):
                    yield from _parameters(module, base.id, folders, depth - 1)
    elif isinstance(found, ast.ImportFrom):
        alias = next(item for item in found.names if name in (item.asname or item.name, "*") or item.name == "*")
        yield from _parameters(
            _absolute(found, module, folders), name if alias.name == "*" else alias.name, folders, depth - 1
        )


def _defined(tree: ast.Module, name: str) -> ast.stmt | None:
    """The statement that defines a name in a module: its class or import, else an import of everything."""
    for item in tree.body:
        if isinstance(item, ast.ClassDef) and item.name == name:
            return item
        if isinstance(item, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in item.names):
            return item
    starred = (item for item in tree.body if isinstance(item, ast.ImportFrom) and item.names[0].name == "*")
    return next(starred, None)


def _absolute(statement: ast.ImportFrom, module: str, folders: tuple[str, ...]) -> str:
    """The module that an import names, from the module in which it stands."""
    if not statement.level:
        return statement.module or ""
    file = _file(module, folders)
    parts = module.split(".")
    parts = parts[: len(parts) - statement.level + (file is not None and file.name == "__init__.py")]
    return ".".join([*parts, *([statement.module] if statement.module else [])])


@cache
def _tree(module: str, folders: tuple[str, ...]) -> ast.Module | None:
    file = _file(module, folders)
    try:
        return None if file is None else ast.parse(read_text(file, LARGEST))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None


@cache
def _file(module: str, folders: tuple[str, ...]) -> Path | None:
    """The source file of a module."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for folder in (*folders, *_installed(parts[0])):
        for path in (Path(folder, *parts, "__init__.py"), Path(folder, *parts).with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _installed(package: str) -> list[str]:
    """The folder from which Python would import a package or top-level module, which imports nothing."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    places = [spec.origin] if spec is not None and spec.origin else []
    return [str(Path(place).parents[1 if Path(place).name == "__init__.py" else 0]) for place in places]
