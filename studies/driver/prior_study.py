"""`harness study --from-study`: the study whose results another one's sampler is to learn from."""

from __future__ import annotations

from studies.common.state_folder import StateFolder
from studies.config.search_plan import SearchPlan
from studies.search import LEARNS, Search


def prior_of(study: str, other: str, plan: SearchPlan, state_folder: StateFolder) -> Search:
    """The study whose results another one's sampler is to learn from.

    Raises:
        ValueError: in one line: there is none, it is judged differently, or the sampler does not learn from trials.
    """
    if plan.sampler not in LEARNS or isinstance(plan.space, str):
        needs = f"a sampler that learns from it ({' or '.join(LEARNS)}) and a space that lists its parameters"
        raise ValueError(f"--from-study needs {needs}, but got sampler={plan.sampler}")
    if other == study:
        raise ValueError(f"--from-study {other} is the study itself: give another study, or another --study-name")
    found = Search.existing(state_folder.storage, other)
    if found.objectives != plan.objectives:
        raise ValueError(
            f"study {other} is judged by {_judged(found.objectives)}, but {study} by {_judged(plan.objectives)}"
        )
    return found


def _judged(objectives: dict[str, str]) -> str:
    return ", ".join(f"{metric} ({direction})" for metric, direction in objectives.items())
