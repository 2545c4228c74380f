"""The `search:` section of an experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studies.config.checks import DIRECTIONS, PRUNERS, SAMPLERS, check_keys, named, one_of
from studies.config.search_space import Space, parse_space

ONE, SEVERAL = ("metric", "direction"), ("metrics", "directions")
SEARCH_KEYS = (*ONE, *SEVERAL, "space", "sampler", "pruner", "seeds")
MOST_SEEDS = 100


@dataclass
class SearchPlan:
    """The `search:` section: what is varied, how, and by which metrics the result is judged.

    Attributes:
        metric: the first objective, which selects checkpoints and the champion and which pruners use.
        further: the other objectives, metric -> maximize or minimize; {} for a search by one metric.
        seeds: how many seeds each point is trained with; its values are their means.
    """

    metric: str
    direction: str
    space: Space | str
    sampler: str | dict[str, Any] = "tpe"  # a name, or {class_path, init_args} of Optuna's BaseSampler
    pruner: str | dict[str, Any] = "none"
    space_as_written: Any = None  # stored in the study's definition
    further: dict[str, str] = field(default_factory=dict)
    seeds: int = 1

    @property
    def objectives(self) -> dict[str, str]:
        """All objectives in order: metric -> maximize or minimize."""
        return {self.metric: self.direction, **self.further}

    @property
    def objectives_as_written(self) -> dict[str, Any]:
        """The keys of the section that name the objectives."""
        if not self.further:
            return {"metric": self.metric, "direction": self.direction}
        return {"metrics": list(self.objectives), "directions": list(self.objectives.values())}


def search(content: Any) -> SearchPlan:
    check_keys(content, "search", SEARCH_KEYS)
    (metric, direction), *further = _objectives(content).items()
    written = content.get("space", {})  # without one, the metric selects the best checkpoint of `train`
    space = written if isinstance(written, str) or written == {} else parse_space(written)
    return SearchPlan(
        metric=metric,
        direction=direction,
        space=space,
        sampler=named("search.sampler", content.get("sampler", "tpe"), SAMPLERS),
        pruner=named("search.pruner", content.get("pruner", "none"), PRUNERS),
        space_as_written=written,
        further=dict(further),
        seeds=_seeds(content.get("seeds", 1)),
    )


def _seeds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"search.seeds must be a whole number from 1 to {MOST_SEEDS}, but got seeds={value!r}")
    return value


def with_one_form(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """A file's content without its objectives if the file laid over it names them in the other form."""
    below, above = base.get("search"), top.get("search")
    if isinstance(below, dict) and isinstance(above, dict):
        for form, other in ((ONE, SEVERAL), (SEVERAL, ONE)):
            if form[0] in above and other[0] not in above:
                below = {key: value for key, value in below.items() if key not in other}
        return {**base, "search": below}
    return base


def _objectives(content: Mapping[str, Any]) -> dict[str, str]:
    """metric -> direction, at least one."""
    given = [key for key in (*ONE, *SEVERAL) if key in content]
    if set(given) & set(ONE) and set(given) & set(SEVERAL):
        raise ValueError(
            f"search needs either metric and direction, or metrics and directions, but got {' and '.join(given)}"
        )
    if not set(given) & set(SEVERAL):
        direction = one_of("search.direction", content.get("direction", "maximize"), DIRECTIONS)
        return {_metric("search.metric", content.get("metric")): direction}
    metrics, directions = (content.get(key) for key in SEVERAL)
    if not isinstance(metrics, list) or not metrics:
        raise ValueError(f"search.metrics must be a list such as [val/accuracy, parameters], but got {metrics=}")
    if not isinstance(directions, list) or len(directions) != len(metrics):
        raise ValueError(
            f"search.directions must list maximize or minimize for each of the {len(metrics)} metrics, "
            f"but got {directions=}"
        )
    metrics = [_metric("each of search.metrics", metric) for metric in metrics]
    if len(set(metrics)) < len(metrics):
        raise ValueError(f"search.metrics must be different metrics, but got {', '.join(metrics)}")
    return dict(zip(metrics, (one_of("search.directions", way, DIRECTIONS) for way in directions), strict=True))


def _metric(what: str, metric: Any) -> str:
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"{what} must be the name of a logged metric, such as val/accuracy, but got {metric=}")
    return metric
