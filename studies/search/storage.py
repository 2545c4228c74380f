"""Optuna's storage of studies in a database, which is created if missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from studies.common.errors import in_one_line
from studies.common.redaction import remember
from studies.common.sqlite_files import made_whole, sqlite_path

# (database, study name) -> the storage for the study's only writer
Storage = Callable[[RDBStorage, str], BaseStorage]


COPY, LEFT = " (copy)", " (left)"  # suffixes of studies that rewriting.py makes, which no study of ours can have


def check_database(storage: str) -> None:
    """Connects once to a database that is not a file, and creates nothing.

    Raises:
        ValueError: in one line: the URL is none, its driver is not installed, or the server refuses.
    """
    if sqlite_path(storage) is not None:
        return
    try:
        url = sqlalchemy.make_url(storage)
        if url.password:
            remember(url.username or "")  # servers name the user in their errors
        engine = sqlalchemy.create_engine(url)
        engine.connect().close()
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        hint = "; install studies-harness[postgresql]" if isinstance(error, ImportError) else ""
        raise ValueError(f"Optuna's database {storage} cannot be used: {in_one_line(error)}{hint}") from error


def study_names(storage: str) -> list[str]:
    """Names of all studies in a database; empty if the database does not exist."""
    check_database(storage)
    path = sqlite_path(storage)
    if path is not None and not path.exists():
        return []
    try:
        names = optuna.get_all_study_names(storage=database(storage))
        return sorted(name for name in names if not name.endswith((COPY, LEFT)))
    except (RecursionError, json.JSONDecodeError) as error:  # somebody has changed an attribute of a study
        raise ValueError(f"Optuna's database {storage} cannot be read ({error}): see harness doctor") from error


def delete_study(storage: str, name: str) -> None:
    """Deletes a study with its trials, and what a process that died may have left of it; see rewriting.py."""
    whole = database(storage)
    for left in {name + COPY, name + LEFT} & set(optuna.get_all_study_names(whole)):
        optuna.delete_study(study_name=left, storage=whole)
    optuna.delete_study(study_name=name, storage=whole)


def study_attributes(storage: str, name: str) -> dict[str, Any]:
    """The user attributes of an existing study."""
    return optuna.load_study(study_name=name, storage=database(storage)).user_attrs


def upgrade_database(storage: str) -> None:
    """Migrates a database of another Optuna version to this one."""
    RDBStorage(storage, skip_compatibility_check=True).upgrade()


def open_study(
    storage: str, name: str, directions: Any, pruner: optuna.pruners.BasePruner, writer: Storage | None = None
) -> optuna.Study:
    """Opens a study for its only writer; creates the study and its database if missing.

    Args:
        writer: creates a storage that wraps the database.
    """
    with made_whole(storage, lambda url: database(url).engine.dispose()):
        whole = database(storage)
        optuna.create_study(storage=whole, study_name=name, directions=directions, load_if_exists=True)
    return optuna.load_study(study_name=name, storage=writer(whole, name) if writer else whole, pruner=pruner)


def database(url: str) -> RDBStorage:
    """The storage of a URL; SQLite waits for other processes' locks."""
    arguments = {"connect_args": {"timeout": 600}} if sqlite_path(url) else {"pool_pre_ping": True}
    return RDBStorage(url, engine_kwargs=arguments)
