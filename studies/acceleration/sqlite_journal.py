"""Lets SQLite empty its journal after a transaction, where it would delete it and make it anew for the next one.

As safe, and cheaper: a trial is a dozen transactions, and ext4 takes the longer to make a file the more were deleted
in the last minutes.
"""

from __future__ import annotations

import contextlib
import sqlite3

from sqlalchemy import event
from sqlalchemy.engine import Engine


def keep_journals() -> None:
    """Of all connections that SQLAlchemy opens in this process; a database of another kind of journal keeps that."""
    if not event.contains(Engine, "connect", _keep_journal):
        event.listen(Engine, "connect", _keep_journal)


def _keep_journal(connection: object, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.Error):  # locked just now: it does as usual then
            if connection.execute("PRAGMA journal_mode").fetchone() == ("delete",):
                connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
