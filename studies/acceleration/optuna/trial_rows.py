"""A trial as rows of Optuna's tables, and SQL statements for the difference between two states.

Optuna's own storage queries the trial before writing each value. Here one statement per table writes everything new, by
the models of Optuna 5.0, the version pinned in pyproject.toml.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import insert, update


@dataclass
class Rows:
    """A snapshot of a trial's rows in the database; Optuna's own trial objects are mutable.

    Attributes:
        of_trial: columns of its row in the table of trials.
        of_tables: its rows in the other tables, in the order of _TABLES.
    """

    of_trial: dict[str, Any]
    of_tables: tuple[dict[Any, Any], ...]


def rows_of(trial: FrozenTrial) -> Rows:
    """Makes a snapshot, which later changes do not affect. Times are UTC, as Optuna stores them."""
    begin, end = (
        moment and moment.astimezone(UTC).replace(tzinfo=None)
        for moment in (trial.datetime_start, trial.datetime_complete)
    )
    params = {name: (value, trial.distributions[name]) for name, value in trial.params.items()}
    attributes = dict(trial.user_attrs), dict(trial.system_attrs)
    values = dict(enumerate(trial.values or ()))
    return Rows(
        {"state": trial.state, "datetime_start": begin, "datetime_complete": end},
        (params, *attributes, values, dict(trial.intermediate_values)),
    )


def write_difference(session: Any, its: int, before: Rows | None, after: Rows) -> None:
    """Writes what is new in a trial with one statement per table; Optuna uses two per value.

    Args:
        its: the database's id of the trial.
        before: the state in the database; None if its row was just created.

    Raises:
        LookupError: the trial is gone, or its state has changed.
    """
    if before is not None and before.of_trial != after.of_trial:
        trials = models.TrialModel.__table__
        as_we_know_it = (trials.c.trial_id == its) & (trials.c.state == before.of_trial["state"])
        if session.execute(update(trials).where(as_we_know_it).values(after.of_trial)).rowcount != 1:
            raise LookupError(f"a trial is no longer {before.of_trial['state'].name}")
    olds = before.of_tables if before is not None else ({},) * len(_TABLES)
    for (model, key, to_row), old, new in zip(_TABLES, olds, after.of_tables, strict=True):
        table = model.__table__
        rows = {name: to_row(value) for name, value in new.items() if name not in old or old[name] != value}
        added = [{"trial_id": its, key: name, **row} for name, row in rows.items() if name not in old]
        if added:
            session.execute(insert(table), added)
        for name in rows.keys() & old.keys():
            same = (table.c.trial_id == its) & (table.c[key] == name)
            session.execute(update(table).where(same).values(rows[name]))


def _param(value: tuple[Any, BaseDistribution]) -> dict[str, Any]:
    inside, distribution = value[1].to_internal_repr(value[0]), distribution_to_json(value[1])
    return {"param_value": inside, "distribution_json": distribution}


def _attribute(value: Any) -> dict[str, Any]:
    return {"value_json": json.dumps(value)}


def _value(value: float) -> dict[str, Any]:
    return dict(zip(("value", "value_type"), models.TrialValueModel.value_to_stored_repr(value), strict=True))


def _intermediate(value: float) -> dict[str, Any]:
    stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return dict(zip(("intermediate_value", "intermediate_value_type"), stored, strict=True))


_TABLES: tuple[tuple[Any, str, Callable[[Any], dict[str, Any]]], ...] = (
    (models.TrialParamModel, "param_name", _param),
    (models.TrialUserAttributeModel, "key", _attribute),
    (models.TrialSystemAttributeModel, "key", _attribute),
    (models.TrialValueModel, "objective", _value),
    (models.TrialIntermediateValueModel, "step", _intermediate),
)
