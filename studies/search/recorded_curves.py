"""The curves of a study's complete trials: what its pruner or another one, and samplers, can be tried on again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import TrialState

from studies.search.study import Search


@dataclass(frozen=True)
class Curve:
    """A trial that was trained to its end.

    Attributes:
        number: of the trial.
        began, ended: Unix times, in seconds.
        params: parameter -> value.
        reports: values of the metric at its validations, first to last.
        value: the metric that its best checkpoint reached.
    """

    number: int
    began: float
    ended: float
    params: dict[str, Any]
    reports: list[float]
    value: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def curves_of(search: Search) -> tuple[list[Curve], int]:
    """The curves of a study, by number, and the number of trials that have none, or only the beginning of one.

    Raises:
        ValueError: the study has several objectives or seeds, or fewer than two complete trials with reports.
    """
    if len(search.objectives) > 1:
        raise ValueError(f"study {search.name} has several objectives; curves are replayed of studies with one")
    if search.definition.get("seeds", 1) > 1:
        raise ValueError(f"study {search.name} scores each point by several seeds; only single curves are replayed")
    rows, found = search.trials(), []
    for trial in search.optuna_study.get_trials(deepcopy=False):
        began, ended = trial.datetime_start, trial.datetime_complete
        if trial.state != TrialState.COMPLETE or not trial.intermediate_values or began is None or ended is None:
            continue
        reports = [value for _, value in sorted(trial.intermediate_values.items())]
        assert trial.value is not None
        params = rows[trial.number].params
        found.append(Curve(trial.number, began.timestamp(), ended.timestamp(), params, reports, trial.value))
    if len(found) < 2:
        raise ValueError(
            f"study {search.name} has {len(found)} complete trials with curves, and at least 2 are needed: "
            "run it with --pruner none"
        )
    return found, len(rows) - len(found)
