"""Several calls of MLflow's as one transaction of its database.

MLflow opens a session for each part of each call and commits it: the end of a trial is eight of them. Here all calls
of one thread get the same session, which is committed once, so that they are stored together or not at all.

`ManagedSessionMaker` is what MLflow (3.17) opens its sessions with. Where a version has no such thing, or calls do not
go together, whoever uses this makes them one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.tracking._tracking_service.utils import _get_store

_ONE_AT_A_TIME = threading.Lock()


class NotTogether(Exception):
    """A call wanted to take back its part alone: a row is there already, for one."""


@contextmanager
def one_transaction(uri: str) -> Iterator[None]:
    """What this thread asks of MLflow's database of that URI inside of it is one transaction; others have theirs.

    Raises:
        Exception: whatever a call raises, NotTogether among them and often inside of MLflow's own; then nothing of it
            all is stored, and the calls can be made one by one.
    """
    store: Any = _get_store(uri)
    with _ONE_AT_A_TIME:
        own, thread = store.ManagedSessionMaker, threading.get_ident()
        with own(read_only=False) as session:

            @contextmanager
            def shared(read_only: bool = True) -> Iterator[Any]:
                if threading.get_ident() == thread:
                    yield session
                else:
                    with own(read_only=read_only) as another:
                        yield another

            session.commit, session.rollback = session.flush, _refuse
            store.ManagedSessionMaker = shared
            try:
                yield
            finally:
                store.ManagedSessionMaker = own
                del session.commit, session.rollback


def _refuse() -> None:
    raise NotTogether("a call of several in one transaction wanted to be taken back")
