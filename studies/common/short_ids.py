"""Short run ids that are unique, as git shortens the names of commits."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterable

from studies.common.state_folder import TRIALS, StateFolder, is_run_id

SHORTEST = 8  # characters: with 1,000 runs, one more is needed once in 8,000 times


def short_ids(shown: Iterable[str], known: Collection[str] = ()) -> dict[str, str]:
    """Run id -> its shortest prefix, of at least 8 characters, with which no other id begins.

    Args:
        shown: the ids to shorten.
        known: further ids from which they have to differ.
    """
    shown = list(shown)
    ordered = sorted({*shown, *known})
    needed: dict[str, int] = {}
    for one, other in itertools.pairwise(ordered):  # an id shares most with its neighbours
        length = 1 + sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        needed[one], needed[other] = max(needed.get(one, 0), length), length
    return {run_id: run_id[: max(SHORTEST, needed.get(run_id, 0))] for run_id in shown}


def short_id(run_id: str, state_folder: StateFolder) -> str:
    """The same, of one run among those of a state folder."""
    return short_ids([run_id], run_ids(state_folder))[run_id]


def run_ids(state_folder: StateFolder) -> list[str]:
    """The ids of all runs with a folder in a state folder."""
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(state_folder.folder / TRIALS) if is_run_id(name)]
    return []
