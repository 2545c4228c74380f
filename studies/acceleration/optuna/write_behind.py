"""A write-behind storage: reads come from memory, and only this process writes to the study's database.

Optuna's storage queries the database at each access, about thirty times per trial: half of the driver's work for a
trial of one second. The driver is the only writer (ensured by its lease), so its memory is always up to date. Reads
use Optuna's own in-memory storage; trials are written as differences from the database (trial_rows.py), everything
else through Optuna's own database storage. A trial takes two transactions. The first contains everything drawn for it:
the trial is in the database with its parameters, or not at all. Updates while it runs are buffered until its end or
`write`: after a crash, the next driver recovers them from the trial's own log, and the run by its tags.

Relies on internals of Optuna 5.0, the version pinned in pyproject.toml.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from studies.acceleration.optuna.trial_rows import Rows, rows_of, write_difference
from studies.common.errors import StorageFailed


class WriteBehindStorage(InMemoryStorage):
    """One study of a database, which is read once.

    Args:
        database: no other process may write to the study while this object is in use.
        name: name of an existing study.

    Raises:
        KeyError: there is no such study.
    """

    def __init__(self, database: RDBStorage, name: str) -> None:
        super().__init__()
        self._database, self._name = database, name
        self._its_study = database.get_study_id_from_name(name)
        self._its_trials: dict[int, int] = {}  # our trial id -> the database's, for trials it has
        self._written: dict[int, Rows] = {}  # our id of an unfinished trial -> its state in the database
        self._waiting: set[int] = set()  # our ids of trials with buffered updates
        study = super().create_new_study(database.get_study_directions(self._its_study), name)
        for key, value in database.get_study_user_attrs(self._its_study).items():
            super().set_study_user_attr(study, key, value)
        for key, value in database.get_study_system_attrs(self._its_study).items():
            super().set_study_system_attr(study, key, value)
        for trial in database.get_all_trials(self._its_study, deepcopy=False):
            trial_id = super().create_new_trial(study, trial)
            self._its_trials[trial_id] = trial._trial_id
            if not trial.state.is_finished():
                self._written[trial_id] = rows_of(trial)
            self._studies[study].param_distribution.update(trial.distributions)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Opens a trial. It is written at once if it has a template, else by `persist` or with its first update."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self.persist(trial_id)
        return trial_id

    def persist(self, trial_id: int) -> None:
        """Inserts the trial if it is not yet in the database.

        Raises:
            StorageFailed: the database has another trial of that number, so another process writes to the study.
        """
        if trial_id not in self._its_trials:
            self._write({trial_id: self._get_trial(trial_id)})

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        if trial_id in self._its_trials:  # a missing parameter of a resumed trial
            self._write({trial_id: self._get_trial(trial_id)})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        if trial_id in self._its_trials:
            self._waiting.add(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.persist(trial_id)
        super().set_trial_user_attr(trial_id, key, value)
        self._waiting.add(trial_id)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.persist(trial_id)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._waiting.add(trial_id)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        trial = self._get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
            return False
        then = copy.copy(trial)  # the database first: if that fails, nothing has changed
        then.state = state
        if values is not None:
            then.values = list(values)
        if state == TrialState.RUNNING:
            then.datetime_start = datetime.now()
        if state.is_finished():
            then.datetime_complete = datetime.now()
        self._write({trial_id: then})
        super().set_trial_state_values(trial_id, state, values)
        self._set_trial(trial_id, then)  # with the database's timestamps
        return True

    def write(self) -> None:
        """Writes all buffered updates in one transaction."""
        if self._waiting:
            self._write({trial_id: self._get_trial(trial_id) for trial_id in sorted(self._waiting)})

    def _write(self, trials: dict[int, FrozenTrial]) -> None:
        """Brings the database up to date with these trials, atomically.

        Raises:
            StorageFailed: the database contains data that this process has not written.
        """
        written = {trial_id: rows_of(trial) for trial_id, trial in trials.items()}
        theirs: dict[int, int] = {}
        try:
            with _create_scoped_session(self._database.scoped_session) as session:
                for trial_id, rows in written.items():
                    its = self._its_trials.get(trial_id)
                    if its is None:
                        its = self._open(session, trials[trial_id].number, rows)
                    theirs[trial_id] = its
                    write_difference(session, its, self._written.get(trial_id), rows)
        except (IntegrityError, LookupError) as error:
            said = getattr(error, "orig", None) or error.args[0]
            raise StorageFailed(f"study {self._name} is written by another process too: {said}") from error
        self._its_trials |= theirs
        for trial_id, trial in trials.items():
            self._written.pop(trial_id, None)
            if not trial.state.is_finished():
                self._written[trial_id] = written[trial_id]
        self._waiting -= set(trials)

    def _open(self, session: Any, number: int, rows: Rows) -> int:
        """Inserts a trial's row; returns its id."""
        trials = models.TrialModel.__table__
        its = trials.c.study_id == self._its_study
        last = session.execute(select(trials.c.number).where(its).order_by(trials.c.trial_id.desc()).limit(1)).scalar()
        if number != (0 if last is None else last + 1):
            raise StorageFailed(f"study {self._name} has a trial {number} from another process")
        row = {"study_id": self._its_study, "number": number, **rows.of_trial}
        return int(session.execute(insert(trials).values(row)).inserted_primary_key[0])

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._database.set_study_user_attr(self._its_study, key, value)
        super().set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._database.set_study_system_attr(self._its_study, key, value)
        super().set_study_system_attr(study_id, key, value)

    def remove_session(self) -> None:
        self._database.remove_session()
