"""Finds the user's source files behind an experiment's classes, and whether they have changed.

Nothing is imported: files are found by module names in the search folders and by the import statements in them.
Standard library only.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

OURS = Path(__file__).resolve().parents[2]  # files of the harness itself are not the user's
OBJECTS = "objects"  # folder of a state folder: experiments made of Python objects
SHIPPED = ("lightning_modules", "datamodules")
MOST = 1000  # limit on the number of files
LONGEST = 4000  # characters of a class path; there is no longer path of a file


def origin_of(file: Path, sections: dict[str, Any], folders: Sequence[Path], state: Path) -> dict[str, Any]:
    """The location of a study's experiment and digests of its source files, as plain data to store with the study.

    Args:
        file: the experiment file.
        sections: the experiment's; each `class_path` in them is followed.
        folders: where the user's modules are searched.
        state: the state folder; the file's path is stored relative to it, so both can be moved together.
    """
    code = {path.relative_to(folder).as_posix(): _digest(path) for folder, path in files_behind(sections, folders)}
    return {"file": str(file), "from_state": os.path.relpath(file, state), "code": code}


def changed_since(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of files in both origins whose contents differ."""
    return sorted(name for name, digest in now["code"].items() if before["code"].get(name, digest) != digest)


def is_elsewhere(before: dict[str, Any], now: dict[str, Any], state: Path) -> Path | None:
    """The former experiment file, if it still exists and is not the present one; None if the file was moved.

    An experiment made of Python objects has a file for each state of its code, objects/NAME/DIGEST/NAME.yaml.
    """
    places = [state / before["from_state"], Path(before["file"])]
    if any(_same(place, Path(now["file"])) for place in places):
        return None
    made = Path(now["from_state"]).parts[:2]
    if made[0] == OBJECTS and made == Path(before["from_state"]).parts[:2]:
        return None
    return next((place.resolve() for place in places if place.is_file()), None)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def files_behind(
    sections: dict[str, Any], folders: Sequence[Path], shipped: bool = False
) -> Iterator[tuple[Path, Path]]:
    """All files reachable from the classes, each with the folder in which it was found.

    Args:
        shipped: those of our modules and datamodules, too, not the user's alone.
    """
    waiting = [found for path in class_paths_in(sections) if (found := _find_class(path, folders)) is not None]
    seen: set[Path] = set()
    while waiting and len(seen) < MOST:
        folder, path = waiting.pop()
        if path in seen or (not shipped and any(path.is_relative_to(OURS / name) for name in SHIPPED)):
            continue
        seen.add(path)
        yield folder, path
        waiting += [found for name in _imports(folder, path) if (found := _find(name, folders)) is not None]


def class_paths_in(value: Any) -> Iterator[str]:
    """Every class_path in an experiment's sections."""
    if isinstance(value, dict):
        path = value.get("class_path")
        if isinstance(path, str):
            yield path
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from class_paths_in(item)


def _find_class(path: str, folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """The file of package.module.Class or of ./file.py:Class."""
    if len(path) > LONGEST:
        return None
    file, colon, _ = path.partition(":")
    if not colon:
        return _find(path.rpartition(".")[0], folders)
    place = (folders[0] / file).resolve()
    return (folders[0], place) if os.path.isfile(place) and place.is_relative_to(folders[0]) else None


def _find(module: str, folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """The file of a module or of its closest parent package; class names may follow the module's name."""
    parts = module.split(".")
    while parts and all(part.isidentifier() for part in parts):
        for folder in folders:
            stem = folder.joinpath(*parts)
            for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
                if os.path.isfile(path):  # Path.is_file raises if a name is too long
                    return folder, path
        parts.pop()
    return None


def _imports(folder: Path, path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in a file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    package = path.relative_to(folder).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}".lstrip(".") for alias in node.names)
            if start:
                yield start


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return "unreadable"


def digest_of(folder: Path) -> str:
    """16 hexadecimal digits of the names and contents of a package's Python files."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder).as_posix()} {_digest(path)}\n".encode())
    return found.hexdigest()[:16]
