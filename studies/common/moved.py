"""What a trial's spec.json says of places, after its state folder was moved or copied. Standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def moved_with(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of a spec.json that lies in `folder` now: its paths follow it.

    A folder of the user's modules may have moved together with the state folder, or stayed where it was: both are
    looked for, the one beside the state folder first, since a copy of a project shall run its own code.
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
    """The folders that one path was moved between: what is left of both without the end that they share."""
    while former.name and former.name == folder.name:
        former, folder = former.parent, folder.parent
    return former, folder


def _follow(path: str, former: Path, folder: Path) -> str:
    """A path that lay in a folder, in the folder's present place; any other as it is."""
    try:
        return str(folder / Path(path).relative_to(former))
    except ValueError:
        return path
