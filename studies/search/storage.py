"""Where studies lie: Optuna's storage in a database, made if it is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage

from studies.common.sqlite_files import made_whole, sqlite_path

# (the database, name of the study) -> the storage that its one writer uses
Storage = Callable[[RDBStorage, str], BaseStorage]


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


def open_study(
    storage: str, name: str, direction: Any, pruner: optuna.pruners.BasePruner, writer: Storage | None = None
) -> optuna.Study:
    """A study for its one writer, made if it is not there, and its database too.

    Args:
        writer: makes what is asked and told in place of the database itself.
    """
    with made_whole(storage, lambda url: database(url).engine.dispose()):
        whole = database(storage)
        optuna.create_study(storage=whole, study_name=name, direction=direction, load_if_exists=True)
    return optuna.load_study(study_name=name, storage=writer(whole, name) if writer else whole, pruner=pruner)


def database(url: str) -> RDBStorage:
    """The database of a URL; SQLite itself waits for a lock of somebody else's."""
    arguments = {"connect_args": {"timeout": 600}} if sqlite_path(url) else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=arguments)
