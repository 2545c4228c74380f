"""Gives the trials of a study new distributions, after its space has changed.

Optuna takes no new choice for a parameter that a study has, and its samplers leave a parameter out of what they model
jointly once its range differs between trials. So the study is copied with the new distributions, and the copy takes its
name in one transaction: a crash leaves the old study or the new one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution

from studies.search.samplers import holds
from studies.search.storage import COPY, LEFT, database

SEQUENTIAL = "cma:"  # prefix of trial attributes with CMA-ES's state, which is in units of the old ranges


def rewrite(
    storage: str, name: str, distributions: Mapping[str, BaseDistribution], attributes: Mapping[str, Any]
) -> None:
    """Rewrites a study, whose only user is this process.

    A value outside a narrowed range keeps the distribution that it was drawn from.

    Args:
        attributes: user attributes that change with the distributions.
    """
    whole = database(storage)
    for left in {name + COPY, name + LEFT} & set(optuna.get_all_study_names(whole)):  # by a process that died
        optuna.delete_study(study_name=left, storage=whole)
    old = optuna.load_study(study_name=name, storage=whole)
    new = optuna.create_study(study_name=name + COPY, storage=whole, directions=old.directions)
    for key, value in {**old.user_attrs, **attributes}.items():
        new.set_user_attr(key, value)
    new.add_trials([_rewritten(trial, distributions) for trial in old.get_trials(deepcopy=True)])
    # Optuna has no way to rename a study.
    rename = sqlalchemy.text("UPDATE studies SET study_name = :after WHERE study_name = :before")
    with whole.engine.begin() as connection:
        connection.execute(rename, {"before": name, "after": name + LEFT})
        connection.execute(rename, {"before": name + COPY, "after": name})
    optuna.delete_study(study_name=name + LEFT, storage=whole)
    whole.engine.dispose()


def _rewritten(
    trial: optuna.trial.FrozenTrial, distributions: Mapping[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    trial = copy.copy(trial)
    trial.distributions = {
        name: distributions[name] if name in distributions and holds(distributions[name], trial.params[name]) else was
        for name, was in trial.distributions.items()
    }
    trial.system_attrs = {key: value for key, value in trial.system_attrs.items() if not key.startswith(SEQUENTIAL)}
    return trial
