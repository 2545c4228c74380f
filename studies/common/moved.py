"""Adjusts the paths in a trial's spec.json after its state folder was moved or copied. Standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def moved_with(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the fields of a spec.json that is now in `folder`, with its paths adjusted.

    A folder of user modules may have moved together with the state folder, or stayed where it was: both places are
    searched, the one next to the state folder first, since a copied project should run its own code.
    """
    former = Path(fields["folder"])
    if former == folder:
        return fields
    before, after = _roots(former, folder)
    fields = {**fields, "folder": str(folder)}
    if fields.get("resume"):
        fields["resume"] = _follow(fields["resume"], former, folder)
    places: dict[str, None] = {}
    for place in fields.get("search_path", []):
        there = _follow(place, before, after)
        places |= dict.fromkeys([there, place] if Path(there).is_dir() else [place])
    return {**fields, "search_path": list(places)}


def _roots(former: Path, folder: Path) -> tuple[Path, Path]:
    """The old and new root of a move: both paths without their common trailing part."""
    while former.name and former.name == folder.name:
        former, folder = former.parent, folder.parent
    return former, folder


def _follow(path: str, former: Path, folder: Path) -> str:
    """Rebases a path from the former to the present folder; other paths are unchanged."""
    try:
        return str(folder / Path(path).relative_to(former))
    except ValueError:
        return path
