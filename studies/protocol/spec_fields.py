"""Checks the fields of a spec.json, which anybody may have edited, cut short or made up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies.common.state_folder import is_run_id

NO = type(None)
KINDS: dict[str, type | tuple[type, ...]] = {
    "run_id": str,
    "experiment": dict,
    "seed": int,
    "folder": str,
    "name": str,
    "study": (str, NO),
    "number": int,
    "params": dict,
    "metric": (str, NO),
    "direction": str,
    "further": dict,
    "pruning": bool,
    "test": bool,
    "resume": (str, NO),
    "extends": bool,
    "threads": int,
    "gpu": (int, NO),
    "search_path": list,
    "data_sets": dict,
    "trusted": bool,
}


def check_kinds(fields: Any) -> None:
    """Raises a ValueError that names a field of the wrong kind, or whatever else such a value raises."""
    for name, kinds in KINDS.items():
        if name in fields and not isinstance(fields[name], kinds):
            raise ValueError(f"{name} is {type(fields[name]).__name__}")
    if not is_run_id(fields["run_id"]):
        raise ValueError(f"run_id is {fields['run_id'][:80]!r}, which is no id")
    if not all(isinstance(text, str) for item in fields.get("further", {}).items() for text in item):
        raise ValueError("further does not map metrics to directions")
    if not all(isinstance(folder, str) and "\0" not in folder for folder in fields.get("search_path", [])):
        raise ValueError("search_path is not a list of folders")


@contextlib.contextmanager
def malformed_is_value_error(path: Path) -> Iterator[None]:
    """Turns what a malformed file raises into a ValueError of one line that names the file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not the specification of a trial: {why}") from error
