"""Trials written as rows, compared with what Optuna's own storage reads."""

import math
from datetime import UTC, datetime
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from studies.acceleration.optuna.trial_rows import rows_of, write_difference

SPACE = {
    "model.learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "data.batch_size": CategoricalDistribution([64, 128]),
    "model.width": IntDistribution(1, 9),
}
numbers = st.floats(allow_nan=False)
attributes = st.dictionaries(st.sampled_from("abc"), st.one_of(st.integers(-5, 5), st.lists(st.text(max_size=3))))
said = st.fixed_dictionaries(
    {
        "user_attrs": attributes,
        "system_attrs": attributes,
        "intermediate_values": st.dictionaries(st.integers(0, 4), st.one_of(numbers, st.just(math.nan))),
    }
)
drawn = st.fixed_dictionaries(
    {"model.learning_rate": st.floats(1e-5, 1.0), "data.batch_size": st.sampled_from([64, 128])},
    optional={"model.width": st.integers(1, 9)},
)


@pytest.fixture(scope="module")
def storage() -> RDBStorage:
    storage = RDBStorage("sqlite://")
    optuna.create_study(storage=storage, study_name="s")
    return storage


def trial(params: dict[str, Any], state: TrialState = TrialState.RUNNING, **more: Any) -> FrozenTrial:
    made = create_trial(params=params, distributions={name: SPACE[name] for name in params}, state=state, **more)
    made.datetime_start = datetime(2026, 5, 1, 12, 30, tzinfo=UTC).astimezone().replace(tzinfo=None)
    return made


def write(storage: RDBStorage, its: int, *difference: Any) -> None:
    with _create_scoped_session(storage.scoped_session) as session:
        write_difference(session, its, *difference)


def opened(storage: RDBStorage, first: FrozenTrial) -> int:
    its = storage.create_new_trial(storage.get_study_id_from_name("s"))
    write(storage, its, None, rows_of(first))
    return its


@settings(max_examples=60, deadline=None)
@given(params=drawn, before=said, more=said, value=st.one_of(numbers, st.just(math.inf)))
def test_optuna_reads_what_was_written(
    storage: RDBStorage, params: dict[str, Any], before: dict[str, Any], more: dict[str, Any], value: float
) -> None:
    first = trial(params, **before)
    its = opened(storage, first)
    grown = {name: {**before[name], **more[name]} for name in before}
    last = trial(params, TrialState.COMPLETE, values=[value], **grown)
    write(storage, its, rows_of(first), rows_of(last))
    found = storage.get_trial(its)
    assert found.params == params and found.distributions == last.distributions
    assert (found.state, found.values) == (TrialState.COMPLETE, [value])
    assert (found.user_attrs, found.system_attrs) == (grown["user_attrs"], grown["system_attrs"])
    said = {step: value + 0.0 for step, value in grown["intermediate_values"].items()}  # SQLite stores -0.0 as 0
    assert repr(sorted(found.intermediate_values.items())) == repr(sorted(said.items()))  # NaN is not equal to itself
    assert found.datetime_complete == last.datetime_complete.astimezone(UTC).replace(tzinfo=None)


def test_only_differences_are_written_with_one_statement_per_table(storage: RDBStorage) -> None:
    first = trial({"data.batch_size": 64}, user_attrs={"a": 1, "b": 2}, intermediate_values={0: 0.5})
    its = opened(storage, first)
    last = trial(
        {"data.batch_size": 64}, user_attrs={"a": 1, "b": 3, "c": 4}, intermediate_values={0: 0.5, 1: 0.6, 2: 0.7}
    )
    statements: list[str] = []
    listen = lambda conn, cursor, statement, *_: statements.append(" ".join(statement.split()[:3]))  # noqa: E731
    event.listen(storage.engine, "before_cursor_execute", listen)
    write(storage, its, rows_of(first), rows_of(last))
    write(storage, its, rows_of(last), rows_of(last))
    event.remove(storage.engine, "before_cursor_execute", listen)
    assert statements == [
        "INSERT INTO trial_user_attributes",
        "UPDATE trial_user_attributes SET",
        "INSERT INTO trial_intermediate_values",
    ]
    assert storage.get_trial(its).user_attrs == {"a": 1, "b": 3, "c": 4}


def test_a_snapshot_does_not_change_with_the_trial() -> None:
    of = trial({"data.batch_size": 64}, user_attrs={"a": 1})
    rows = rows_of(of)
    of.user_attrs["a"], of.intermediate_values[0] = 2, 0.5
    assert rows != rows_of(of)
    assert rows == rows_of(trial({"data.batch_size": 64}, user_attrs={"a": 1}))


def test_a_trial_ended_by_another_process_is_an_error_and_unchanged(storage: RDBStorage) -> None:
    first = trial({"data.batch_size": 64})
    its = opened(storage, first)
    storage.set_trial_state_values(its, TrialState.FAIL)
    with pytest.raises(LookupError, match="no longer RUNNING"):
        write(storage, its, rows_of(first), rows_of(trial({"data.batch_size": 64}, TrialState.COMPLETE, values=[1.0])))
    assert storage.get_trial(its).state is TrialState.FAIL
