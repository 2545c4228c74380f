"""A study's trials as its leaderboard shows them, and their order from best to worst."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from studies.common.objective import best_first, pareto_front


@dataclass
class TrialRow:
    """A trial, as shown on the leaderboard.

    Attributes:
        state: COMPLETE, PRUNED, FAIL, RUNNING or WAITING.
        value: the metric that its best checkpoint reached, of a pruned trial too: ranks and `extend` compare trials
            by it.
        retry_of: the failed trial that this one retries, or None.
        extension: if the trial is or was extended: total `epochs`, whether it is `done` and, once it has a result,
            that `state` and `value`; else {}.
        began: Unix time at which it was opened, in seconds, if known.
        last: of a pruned trial, the metric when it was pruned, by which its pruner judged it.
        enqueued: whether the user chose its values; known of a trial that is about to run.
        further: the further objectives of the same checkpoint, by metric; {} in a study of one.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    seconds: float | None = None
    retry_of: int | None = None
    extension: dict[str, Any] = field(default_factory=dict)
    began: float | None = None
    last: float | None = None
    enqueued: bool = False
    further: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in ("number", "state", "value", "params", "run_id")}
        shown |= {"last": self.last} if self.last is not None else {}
        return shown | ({"further": self.further} if self.further else {})

    def point(self, objectives: Mapping[str, str]) -> list[float]:
        """Its values of all objectives, in their order; NaN where it has none."""
        first = math.nan if self.value is None else self.value
        return [first, *(self.further.get(name, math.nan) for name in list(objectives)[1:])]


def ranked(
    rows: list[TrialRow], objectives: Mapping[str, str], states: Collection[str] = ("COMPLETE",)
) -> list[TrialRow]:
    """The trials that have a value, from best to worst; see objective.best_first.

    Args:
        objectives: metric -> maximize or minimize.
        states: those of the trials to rank.
    """
    chosen = [row for row in rows if row.state in states and row.value is not None]
    chosen.sort(key=lambda row: row.number)
    return [chosen[index] for index in best_first([row.point(objectives) for row in chosen], objectives)]


def front_of(rows: list[TrialRow], objectives: Mapping[str, str]) -> list[TrialRow]:
    """The Pareto front of the complete trials, by the first objective; of one objective, the best trials."""
    chosen = [row for row in rows if row.state == "COMPLETE" and row.value is not None]
    chosen.sort(key=lambda row: row.number)
    return [chosen[index] for index in pareto_front([row.point(objectives) for row in chosen], objectives)]


def best_of(rows: list[TrialRow], objectives: Mapping[str, str]) -> TrialRow | None:
    """The champion: of the Pareto front, the trial that is best by the first objective; ties go to the earlier one."""
    return next(iter(ranked(rows, objectives)), None)
