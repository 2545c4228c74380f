"""A finding of the doctor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Finding:
    """An inconsistency.

    Attributes:
        kind: database | temporary-file | checkpoint | specification | log | study | no-process | states-disagree |
            run-missing | run-deleted | no-study | artifact-missing.
        where: the file, run or trial.
        fix: what --fix does about it; it never deletes a result.
        mend: performs the fix.
    """

    kind: str
    where: str
    fix: str
    mend: Callable[[], None]


class Count(Protocol):
    """Passes items on, and shows how many have been looked at."""

    def __call__(self, items: Sequence[Item], what: str) -> Iterator[Item]: ...


def silently(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Shows nothing."""
    return iter(items)


def aside(path: Path, why: str = "broken") -> Path:
    """An unused name to move a broken file to: mlflow.db.broken, mlflow.db.broken-2, ..."""
    number = 1
    while True:
        name = path.with_name(f"{path.name}.{why}" + (f"-{number}" if number > 1 else ""))
        if not name.exists():
            return name
        number += 1


def move_aside(path: Path) -> None:
    """Gives a broken file another name; another repair may have done so before."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside(path))
