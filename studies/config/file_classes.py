"""Classes that are named by a file: class_path ./net.py:Net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FILE_CLASS = re.compile(r"(?P<file>[^:]+\.py):(?P<name>\w+)$")


def resolve_files(value: Any, folder: Path) -> None:
    """Turns each class_path ./net.py:Net into net.Net, with the file's folder noted beside it."""
    if isinstance(value, dict):
        match = FILE_CLASS.match(value["class_path"]) if isinstance(value.get("class_path"), str) else None
        if match:
            file = (folder / match["file"]).resolve()
            if not file.is_file():
                raise ValueError(f"class_path {value['class_path']}: there is no file {file}")
            if not file.stem.isidentifier():
                raise ValueError(f"class_path {value['class_path']}: {file.name} cannot be imported under that name")
            value["class_path"] = _FromFile(f"{file.stem}.{match['name']}")
            value["class_path"].folder = str(file.parent)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            resolve_files(item, folder)


class _FromFile(str):
    """A class path whose module lies in a folder of its own."""

    folder: str


def plain_text(value: Any, folders: list[str]) -> Any:
    """A config with ordinary strings for what `resolve_files` left; `folders` gets those it noted."""
    if isinstance(value, _FromFile):
        if value.folder not in folders:
            folders.append(value.folder)
        return str(value)
    if isinstance(value, dict):
        return {key: plain_text(item, folders) for key, item in value.items()}
    return [plain_text(item, folders) for item in value] if isinstance(value, list) else value
