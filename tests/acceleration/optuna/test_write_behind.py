"""The write-behind storage, compared with what Optuna's own storage reads from the same database."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from studies.acceleration.optuna.write_behind import WriteBehindStorage
from studies.common.errors import StorageFailed
from studies.search.storage import database, open_study, study_names

SHOWN = ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
SHOWN += ("datetime_start", "datetime_complete")


def opened(folder: Path) -> tuple[optuna.Study, WriteBehindStorage]:
    study = open_study(
        f"sqlite:///{folder}/optuna.db", "s", ["maximize"], optuna.pruners.NopPruner(), WriteBehindStorage
    )
    assert isinstance(study._storage, WriteBehindStorage)
    return study, study._storage


def shown(storage: optuna.storages.BaseStorage) -> list[dict[str, Any]]:
    study = storage.get_study_id_from_name("s")
    return [{name: getattr(trial, name) for name in SHOWN} for trial in storage.get_all_trials(study)]


def in_database(folder: Path) -> list[dict[str, Any]]:
    return shown(database(f"sqlite:///{folder}/optuna.db"))


def drawn(study: optuna.Study, storage: WriteBehindStorage) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("rate", 1e-4, 1.0, log=True)
    trial.suggest_categorical("sizes", ["[1]", "[2, 3]"])
    trial.suggest_int("batch", 1, 512)
    storage.persist(trial._trial_id)
    return trial


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask")),
        st.tuples(st.just("enqueue"), st.integers(1, 512)),
        st.tuples(st.just("report"), st.integers(0, 9), st.floats(allow_infinity=True, allow_nan=False, width=32)),
        st.tuples(st.just("note"), st.sampled_from(["harness.run_id", "other"]), st.text(max_size=5)),
        st.tuples(st.just("sampler's note"), st.sampled_from(["a", "b"]), st.lists(st.integers(0, 9), max_size=2)),
        st.tuples(st.just("tell"), st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])),
        st.tuples(st.just("reopen")),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_memory_and_database_agree_after_any_operations(steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        study, storage = opened(folder)
        live: list[optuna.Trial] = []
        for what, *how in steps:
            if what == "ask":
                live.append(drawn(study, storage))
            elif what == "enqueue":
                study.enqueue_trial({"batch": how[0]}, user_attrs={"harness.retry_of": 0})
            elif what == "reopen":
                storage.write()
                study, storage = opened(folder)
                live = [optuna.Trial(study, trial._trial_id) for trial in study.trials if trial.state.name == "RUNNING"]
            elif not live:
                continue
            elif what == "report":
                live[-1].report(how[1], how[0])
            elif what == "sampler's note":
                storage.set_trial_system_attr(live[-1]._trial_id, how[0], how[1])
            elif what == "note":
                live[-1].set_user_attr(*how)
                study.set_user_attr(*how)
            else:
                value = 0.5 if how[0] == TrialState.COMPLETE else None
                study.tell(live.pop(), value, state=how[0])
        storage.write()
        assert shown(storage) == in_database(folder)
        again, _ = opened(folder)
        assert again.user_attrs == study.user_attrs
        assert again.directions == study.directions


def test_a_trial_is_in_the_database_with_all_its_parameters_or_not_at_all(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    trial = study.ask()
    trial.suggest_float("rate", 0, 1)
    assert in_database(tmp_path) == [], "a driver that dies here leaves nothing half drawn"
    trial.suggest_int("batch", 1, 512)
    storage.persist(trial._trial_id)
    (there,) = in_database(tmp_path)
    assert there["params"] == trial.params and len(there["params"]) == 2
    assert there["state"] == TrialState.RUNNING


def test_updates_of_a_trial_are_buffered_until_its_end(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    trial = drawn(study, storage)
    trial.set_user_attr("run", "r")
    trial.report(0.25, 1)
    trial.report(0.5, 2)
    (there,) = in_database(tmp_path)
    assert (there["user_attrs"], there["intermediate_values"]) == ({}, {})
    commits: list[Any] = []
    sqlalchemy.event.listen(storage._database.engine, "commit", commits.append)
    study.tell(trial, 0.75)
    (there,) = in_database(tmp_path)
    assert (there["user_attrs"], there["intermediate_values"]) == ({"run": "r"}, {1: 0.25, 2: 0.5})
    assert (there["state"], there["values"], len(commits)) == (TrialState.COMPLETE, [0.75], 1)


def test_buffered_updates_survive_a_failed_write(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    trials = [drawn(study, storage) for _ in range(2)]
    for trial in trials:
        trial.set_user_attr("run", "r")
        trial.report(0.25, 1)

    def refuse(*call: Any) -> None:
        if "INSERT INTO trial_intermediate_values" in call[2]:
            raise sqlalchemy.exc.OperationalError("the disk is full", None, Exception())

    sqlalchemy.event.listen(storage._database.engine, "before_cursor_execute", refuse)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        storage.write()
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.tell(trials[0], 0.5)
    assert [trial["user_attrs"] for trial in in_database(tmp_path)] == [{}, {}], "all of it or nothing"
    sqlalchemy.event.remove(storage._database.engine, "before_cursor_execute", refuse)
    study.tell(trials[0], 0.5)
    storage.write()
    for trial in in_database(tmp_path):
        assert (trial["user_attrs"], trial["intermediate_values"]) == ({"run": "r"}, {1: 0.25})
    assert shown(storage) == in_database(tmp_path)


def test_an_update_inserts_a_trial(tmp_path: Path) -> None:
    study, _ = opened(tmp_path)
    for say in (
        lambda trial: trial.set_user_attr("a", 1),
        lambda trial: trial.report(1.0, 1),
        lambda trial: study.tell(trial, 1.0),
    ):
        trial = study.ask()
        trial.suggest_float("rate", 0, 1)
        say(trial)
        assert in_database(tmp_path)[-1]["params"] == trial.params


def test_reads_do_not_reach_the_database(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    for _ in range(3):
        study.tell(drawn(study, storage), 0.5)
    drawn(study, storage)
    asked: list[str] = []
    sqlalchemy.event.listen(storage._database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert len(study.trials) == 4 and study.best_value == 0.5 and study.user_attrs == {}
    assert study.get_trials(states=(TrialState.RUNNING,))[0].number == 3
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=1)
    trial = study.ask()
    trial.suggest_float("rate", 1e-4, 1.0, log=True)
    assert asked == []
    storage.persist(trial._trial_id)
    assert any("INSERT INTO trials" in statement for statement in asked)


def test_another_writer_is_detected(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    other, other_storage = opened(tmp_path)
    drawn(other, other_storage)
    with pytest.raises(StorageFailed, match="study s has a trial 0 from another process"):
        drawn(study, storage)


def test_changes_by_another_process_are_detected(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    trial = drawn(study, storage)
    other = database(f"sqlite:///{tmp_path}/optuna.db")
    other.set_trial_user_attr(other.get_all_trials(1)[0]._trial_id, "run", "theirs")
    trial.set_user_attr("run", "ours")
    with pytest.raises(StorageFailed, match="study s is written by another process too: UNIQUE"):
        study.tell(trial, 0.5)
    assert study.trials[0].state == TrialState.RUNNING and in_database(tmp_path)[0]["state"] == TrialState.RUNNING


def test_a_trial_that_another_process_has_closed_is_not_closed_again(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    trial = drawn(study, storage)
    other = database(f"sqlite:///{tmp_path}/optuna.db")
    other.set_trial_state_values(other.get_all_trials(1)[0]._trial_id, TrialState.FAIL)
    with pytest.raises(StorageFailed, match="by another process too: a trial is no longer RUNNING"):
        study.tell(trial, 0.5)
    assert in_database(tmp_path)[0]["state"] == TrialState.FAIL and in_database(tmp_path)[0]["values"] is None


def test_changed_choices_are_rejected_and_nothing_is_written(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    drawn(study, storage)
    again, _ = opened(tmp_path)
    trial = again.ask()
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        trial.suggest_categorical("sizes", ["[1]", "[4]"])
    assert len(in_database(tmp_path)) == 1


def test_a_nan_value_is_restored(tmp_path: Path) -> None:
    study, storage = opened(tmp_path)
    drawn(study, storage).report(math.nan, 1)
    storage.write()
    again, _ = opened(tmp_path)
    assert math.isnan(again.trials[0].intermediate_values[1])


def test_names_of_existing_studies(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    assert study_names(url) == []
    opened(tmp_path)
    assert study_names(url) == ["s"]
