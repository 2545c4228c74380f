"""How a study's Pareto front grew: the hypervolume after each trial, computed by Optuna."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.trial import create_trial

from studies.search.trial_row import TrialRow

LARGEST = 1e100  # largest value whose differences are finite


def hypervolume_history(rows: list[TrialRow], objectives: Mapping[str, str]) -> dict[int, float]:
    """Trial number -> share of the space of values that the Pareto front dominates after this trial, 0 to 1.

    Each objective is scaled from its worst (1, also the reference point) to its best value (0) among the complete
    trials. Those with infinite or nearly infinite values are left out.
    """
    points = {row.number: row.point(objectives) for row in rows if row.state == "COMPLETE"}
    points = {number: point for number, point in sorted(points.items()) if all(abs(value) < LARGEST for value in point)}
    if not points:
        return {}
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()]
    losses = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points.values()]
    low, high = ([end(column) for column in zip(*losses, strict=True)] for end in (min, max))
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    for loss in losses:
        scaled = [(a - b) / (c - b) if c > b else 0.0 for a, b, c in zip(loss, low, high, strict=True)]
        study.add_trial(create_trial(values=scaled))
    figure = optuna.visualization.plot_hypervolume_history(study, [1.0] * len(objectives))
    return dict(zip(points, map(float, figure.data[0].y), strict=True))
