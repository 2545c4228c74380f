"""The `search:` section of an experiment file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studies.config.checks import DIRECTIONS, PRUNERS, SAMPLERS, check_keys, named, one_of
from studies.config.search_space import Space, parse_space

SEARCH_KEYS = ("metric", "direction", "space", "sampler", "pruner")


@dataclass
class SearchPlan:
    """The `search:` section: what is varied, how, and by which metric the result is judged."""

    metric: str
    direction: str
    space: Space | str
    sampler: str | dict[str, Any] = "tpe"  # a name, or {class_path, init_args} of Optuna's BaseSampler
    pruner: str | dict[str, Any] = "none"
    space_as_written: Any = None  # stored in the study's definition


def search(content: Any) -> SearchPlan:
    check_keys(content, "search", SEARCH_KEYS)
    metric = content.get("metric")
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"search.metric must be the name of a logged metric, such as val/accuracy, but got {metric=}")
    written = content.get("space")
    space = written if isinstance(written, str) else parse_space(written)
    return SearchPlan(
        metric=metric,
        direction=one_of("search.direction", content.get("direction", "maximize"), DIRECTIONS),
        space=space,
        sampler=named("search.sampler", content.get("sampler", "tpe"), SAMPLERS),
        pruner=named("search.pruner", content.get("pruner", "none"), PRUNERS),
        space_as_written=written,
    )
