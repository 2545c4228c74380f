"""Resolves classes given by file: class_path ./net.py:Net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FILE_CLASS = re.compile(r"(?P<file>[^:]+\.py):(?P<name>\w+)$")


def resolve_files(value: Any, folder: Path) -> None:
    """Replaces each class_path ./net.py:Net by net.Net, and remembers the file's folder."""
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
    """A class path with the folder of its module."""

    folder: str


def plain_text(value: Any, folders: list[str]) -> Any:
    """Converts the results of `resolve_files` to plain strings; appends their folders to `folders`."""
    if isinstance(value, _FromFile):
        if value.folder not in folders:
            folders.append(value.folder)
        return str(value)
    if isinstance(value, dict):
        return {key: plain_text(item, folders) for key, item in value.items()}
    return [plain_text(item, folders) for item in value] if isinstance(value, list) else value
