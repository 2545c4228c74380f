"""Pruning with several objectives, for which Optuna has none.

The pruner judges a trial by the first objective, in a study of that objective alone that is kept in memory beside the
real one. A trial that the pruner would end still goes on unless a complete trial is at least as good in every objective
and better in one: otherwise a small model would be pruned for being less accurate than large ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from studies.common.objective import better, dominates


class ParetoPruner:
    """Prunes the trials of one study.

    Args:
        name: the study's; Hyperband derives a trial's bracket from it.
        objectives: metric -> maximize or minimize, at least two.
        pruner: judges by the first of them.
    """

    def __init__(self, name: str, objectives: Mapping[str, str], pruner: optuna.pruners.BasePruner) -> None:
        self._objectives = objectives
        directions: list[Any] = list(objectives.values())  # Optuna's type is a literal
        self._direction = directions[0]
        self._study = optuna.create_study(study_name=name, direction=self._direction, pruner=pruner)
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}  # running trial -> steps
        self._best: dict[int, Sequence[float]] = {}  # running trial -> its values when the first was best
        self._complete: list[Sequence[float]] = []

    def add_ended(
        self, state: TrialState, values: Sequence[float] | None, reports: Mapping[int, Sequence[float]], notes: Any
    ) -> None:
        """Adds a trial that ended in an earlier start.

        Args:
            values: of all objectives if it is complete, else None.
            reports: step -> values.
            notes: what `close` returned.
        """
        first = {step: point[0] for step, point in reports.items()}
        last = [first[max(first)]] if first else None
        told = None if state == TrialState.FAIL else values[:1] if values else last
        self._study.add_trial(create_trial(state=state, values=told, intermediate_values=first, system_attrs=notes))
        if values:
            self._complete.append(values)

    def open(self, number: int, reports: Mapping[int, Sequence[float]]) -> None:
        """Begins to judge a running trial, with the reports of earlier starts."""
        self._live[number], self._reported[number] = self._study.ask(), set()
        for step, point in sorted(reports.items()):
            self.report(number, step, point)

    def report(self, number: int, step: int, point: Sequence[float]) -> bool:
        """Takes a trial's values at a step, which may be repeated; returns whether to prune it."""
        trial, best = self._live[number], self._best.get(number)
        if step not in self._reported[number]:
            trial.report(point[0], step)
            self._reported[number].add(step)
        if better(point[0], None if best is None else best[0], self._direction):
            self._best[number] = point
        return trial.should_prune() and self._is_dominated(self._best[number])

    def _is_dominated(self, point: Sequence[float]) -> bool:
        return any(dominates(other, point, self._objectives) for other in self._complete)

    def close(self, number: int, state: TrialState, values: Sequence[float] | None) -> dict[str, Any]:
        """Ends a trial: with its values if it is complete; returns what the pruner has noted about it, as JSON."""
        trial = self._live.pop(number)
        notes = dict(self._study.get_trials(deepcopy=False)[trial.number].system_attrs)
        self._study.tell(trial, values[:1] if values else None, state=state)
        if values:
            self._complete.append(values)
        del self._reported[number]
        self._best.pop(number, None)
        return notes
