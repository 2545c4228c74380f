"""Where a study lies: a database, written by one process, which answers its own questions from memory.

Optuna's storage asks the database at each question, and a trial is some thirty of them: half of what the driver did
for a trial of a second. The driver is the only writer (its lease sees to that), so what it has read and written is
what there is. Reads are answered by Optuna's own in-memory storage; writes go to the database through Optuna's own
storage of databases. A trial is two transactions. The first holds all that was drawn for it: it is in the database with
its parameters, or not at all. What is said of it while it runs waits for its end, or for `write`: a driver that dies
finds it again in the trial's own log, and its run by the run's tags.

Written against the inside of Optuna 5.0, to which pyproject.toml holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState

from studies.databases import made_whole, sqlite_path
from studies.journals import keep_journals
from studies.trouble import StorageFailed

_Change = Callable[[Any, int], None]  # (the database's session, its id of a trial)


class OneWriter(InMemoryStorage):
    """One study of a database, read once.

    Args:
        database: nobody else writes to that study while this object is in use.
        name: of the study, which is there.

    Raises:
        KeyError: there is no such study.
    """

    def __init__(self, database: RDBStorage, name: str) -> None:
        super().__init__()
        self._database, self._name = database, name
        self._its_study = database.get_study_id_from_name(name)
        self._its_trials: dict[int, int] = {}  # our id of a trial -> the database's, of those it has
        self._waiting: dict[int, list[_Change]] = {}  # our id of a trial -> what is to be written of it
        study = super().create_new_study(database.get_study_directions(self._its_study), name)
        for key, value in database.get_study_user_attrs(self._its_study).items():
            super().set_study_user_attr(study, key, value)
        for key, value in database.get_study_system_attrs(self._its_study).items():
            super().set_study_system_attr(study, key, value)
        for trial in database.get_all_trials(self._its_study, deepcopy=False):
            self._its_trials[super().create_new_trial(study, trial)] = trial._trial_id

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Opens a trial, which is written at once if it is given, else by `keep` or by what is said of it first."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self.keep(trial_id)
        return trial_id

    def keep(self, trial_id: int) -> int:
        """Writes a trial with all that is known of it, if it has not been; returns the database's id of it.

        Raises:
            StorageFailed: the database has another trial of that number: somebody else writes to the study.
        """
        if trial_id not in self._its_trials:
            trial = self.get_trial(trial_id)
            theirs = self._database.create_new_trial(self._its_study, trial)
            number = self._database.get_trial_number_from_id(theirs)
            if number != trial.number:
                raise StorageFailed(f"study {self._name} has got a trial {trial.number} from another process")
            self._its_trials[trial_id] = theirs
        return self._its_trials[trial_id]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        if trial_id in self._its_trials:
            theirs = self._its_trials[trial_id]
            self._database.set_trial_param(theirs, param_name, param_value_internal, distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._its_trials:  # samplers write while they draw
            self._database.set_trial_system_attr(self._its_trials[trial_id], key, value)
        super().set_trial_system_attr(trial_id, key, value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.keep(trial_id)
        super().set_trial_user_attr(trial_id, key, value)
        attributes, write = models.TrialUserAttributeModel, self._database._set_trial_attr_without_commit
        self._later(trial_id, lambda session, theirs: write(session, attributes, theirs, key, value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.keep(trial_id)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        write = self._database._set_trial_intermediate_value_without_commit
        self._later(trial_id, lambda session, theirs: write(session, theirs, step, intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        theirs = self.keep(trial_id)
        with self._transaction({trial_id}):  # on the same session, and so in the same transaction
            changed = self._database.set_trial_state_values(theirs, state, values)
        return super().set_trial_state_values(trial_id, state, values) and changed

    def write(self) -> None:
        """Writes what waits, of all trials, in one transaction."""
        if self._waiting:
            with self._transaction(set(self._waiting)):
                pass

    def _later(self, trial_id: int, change: _Change) -> None:
        self._waiting.setdefault(trial_id, []).append(change)

    @contextmanager
    def _transaction(self, trial_ids: set[int]) -> Iterator[None]:
        """Writes what waits of some trials, and what the caller adds, together or not at all."""
        with _create_scoped_session(self._database.scoped_session) as session:
            for trial_id in trial_ids:
                for change in self._waiting.get(trial_id, []):
                    change(session, self._its_trials[trial_id])
            yield
        for trial_id in trial_ids:
            self._waiting.pop(trial_id, None)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._database.set_study_user_attr(self._its_study, key, value)
        super().set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._database.set_study_system_attr(self._its_study, key, value)
        super().set_study_system_attr(study_id, key, value)

    def remove_session(self) -> None:
        self._database.remove_session()


def study_names(storage: str) -> list[str]:
    """Names of all studies of a database; none where there is no database."""
    path = sqlite_path(storage)
    if path is not None and not path.exists():
        return []
    return sorted(optuna.get_all_study_names(storage=database(storage)))


def study_attributes(storage: str, name: str) -> dict[str, Any]:
    """The user attributes of a study that is there."""
    return optuna.load_study(study_name=name, storage=database(storage)).user_attrs


def upgrade_database(storage: str) -> None:
    """Brings a database of another version of Optuna to this one's."""
    RDBStorage(storage, skip_compatibility_check=True).upgrade()


def open_study(storage: str, name: str, direction: Any, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """A study for its one writer, made if it is not there, and its database too."""
    with made_whole(storage, lambda url: database(url).engine.dispose()):
        whole = database(storage)
        optuna.create_study(storage=whole, study_name=name, direction=direction, load_if_exists=True)
    return optuna.load_study(study_name=name, storage=OneWriter(whole, name), pruner=pruner)


def database(url: str) -> RDBStorage:
    """The database of a URL; SQLite itself waits for a lock of somebody else's."""
    keep_journals()
    arguments = {"connect_args": {"timeout": 600}} if sqlite_path(url) else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=arguments)
