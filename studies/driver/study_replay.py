"""`harness replay STUDY`: draws a study's trials again, and says whether they are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studies.common.state_folder import StateFolder
from studies.driver.session import search_parts
from studies.search.redrawing import lines_of, redraw


def replay_study(
    state_folder: StateFolder, name: str, progress: Callable[[int], Any] = bool
) -> tuple[dict[str, Any], list[str]]:
    """Draws a study's trials again, in a database of its own; writes nothing to the state folder.

    Args:
        progress: called with the number of trials drawn so far.

    Returns:
        The answer: `study`, `same` (false if a trial differs, null if none was drawn again), `drawn` (number of trials
        that are the same), `difference` (of the first that is not: number, parameter, recorded, redrawn; or null) and
        `not_drawn` (lines that say what was not drawn again, and why). And the lines that say the same.

    Raises:
        ValueError: in one line: there is no such study, or somebody has changed what is stored.
    """
    found = redraw(state_folder.storage, name, search_parts, progress)
    same = False if found.difference is not None else True if found.drawn else None
    answer = {"study": name, "same": same, "drawn": found.drawn, "difference": found.difference}
    return {**answer, "not_drawn": found.not_drawn}, list(lines_of(name, found))
