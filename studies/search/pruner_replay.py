"""What a pruner would have done to recorded trials.

The values of all trials are given to the pruner in the order of time, as when they were recorded: a trial's values are
taken to have come evenly between its beginning and its end. Trials after one that is pruned do not begin earlier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from studies.common.objective import better
from studies.search.recorded_curves import Curve
from studies.search.samplers import make_pruner

BEST_SHARE = 0.1  # of the trials, those that a pruner should spare


def replay_pruner(
    curves: Sequence[Curve], pruner: str | dict[str, Any], direction: str, name: str = "replay"
) -> dict[str, Any]:
    """Replays a pruner.

    Args:
        direction: maximize or minimize.
        name: the study's; Hyperband derives a trial's bracket from it.

    Returns:
        pruned: number of trials; reports_saved, reports, seconds_saved, seconds; best_survived; regret: how much worse
        than the best trial the best survivor is, at least 0; wrongly_pruned: the pruned ones among the best tenth of
        the trials, each with number, rank (1 is the best) and at (the report at which it was pruned).
    """
    judge = make_pruner(pruner, max(len(curve.reports) for curve in curves))
    ways: list[Any] = [direction]  # Optuna's type is a literal
    study = optuna.create_study(study_name=name, directions=ways, pruner=judge)
    moments = []
    for place, curve in enumerate(curves):
        step = (curve.ended - curve.began) / len(curve.reports)
        moments += [(curve.began + step * count, place, count) for count in range(len(curve.reports) + 1)]
    live: dict[int, optuna.Trial] = {}
    pruned: dict[int, int] = {}  # place -> reports
    for _, place, count in sorted(moments):
        curve = curves[place]
        if place in pruned:
            continue
        if count == 0:
            live[place] = study.ask()
            continue
        value = curve.reports[count - 1]
        if math.isfinite(value):
            live[place].report(value, count)
        last = count == len(curve.reports)
        if not last and live[place].should_prune():  # at its last report there is nothing left to save
            pruned[place] = count
            study.tell(live.pop(place), state=TrialState.PRUNED)
        elif last:
            study.tell(live.pop(place), curve.value)
    return _summary(curves, pruned, direction)


def _summary(curves: Sequence[Curve], pruned: dict[int, int], direction: str) -> dict[str, Any]:
    order = sorted(range(len(curves)), key=lambda place: _loss(curves[place].value, direction))
    ranks = {place: rank for rank, place in enumerate(order, 1)}
    best, survivors = curves[order[0]].value, [place for place in order if place not in pruned]
    kept = curves[survivors[0]].value if survivors else None
    saved = {place: 1 - count / len(curves[place].reports) for place, count in pruned.items()}
    few = max(1, round(BEST_SHARE * len(curves)))
    wrong = [place for place in order[:few] if place in pruned]
    return {
        "pruned": len(pruned),
        "reports_saved": sum(len(curves[place].reports) - count for place, count in pruned.items()),
        "reports": sum(len(curve.reports) for curve in curves),
        "seconds_saved": sum((curves[place].ended - curves[place].began) * share for place, share in saved.items()),
        "seconds": sum(curve.ended - curve.began for curve in curves),
        "best_survived": kept is not None and not better(best, kept, direction),
        "regret": None if kept is None else abs(best - kept),
        "wrongly_pruned": [
            {"number": curves[place].number, "rank": ranks[place], "at": pruned[place]} for place in wrong
        ],
    }


def _loss(value: float, direction: str) -> float:
    return -value if direction == "maximize" else value
