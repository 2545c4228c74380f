"""Creates (from a cached copy), checks and upgrades MLflow's database."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


import mlflow
from mlflow.store.db.utils import _all_tables_exist, _initialize_tables, _upgrade_db, _verify_schema
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore


def make(url: str) -> None:
    """Creates MLflow's tables in a new database and closes it."""
    engine = SqlAlchemyStore._get_or_create_engine(url)
    try:
        _initialize_tables(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(url).dispose()


def template() -> Path | None:
    """The path of this machine's cached empty database of this MLflow version: creating tables takes 4 to 8 s.

    None if the user has no home folder.
    """
    try:
        cache = Path(os.environ.get("HARNESS_DATA") or Path.home() / ".cache" / "harness").expanduser()
    except RuntimeError:
        return None
    return cache / f"empty-mlflow-{mlflow.__version__}.db"


def open_existing(uri: str) -> None:
    """Opens a database with this version of MLflow; raises MLflow's error if it does not understand it."""
    engine = SqlAlchemyStore._get_or_create_engine(uri)
    try:
        if not _all_tables_exist(engine):
            raise ValueError("some of its tables are missing")
        _verify_schema(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()


def upgrade_database(uri: str) -> None:
    """Migrates a database of an older MLflow version, or an incomplete one, to this version's schema."""
    engine = SqlAlchemyStore._get_or_create_engine(uri)
    try:
        _upgrade_db(engine)
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()
