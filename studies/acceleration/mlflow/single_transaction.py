"""Runs several MLflow calls in one database transaction.

MLflow opens and commits a session for each part of each call: eight at the end of a trial. Here all calls of a thread
share a session, which is committed once, so they are stored together or not at all.

MLflow (3.17) opens its sessions by `ManagedSessionMaker`. If a version lacks it, or the calls cannot share a
transaction, the caller makes them one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.tracking._tracking_service.utils import _get_store

_ONE_AT_A_TIME = threading.Lock()


class NotTogether(Exception):
    """A call tried to roll back only its own part, e.g. because a row exists already."""


@contextmanager
def one_transaction(uri: str) -> Iterator[None]:
    """Makes this thread's calls to MLflow's database of that URI within the block one transaction.

    Raises:
        Exception: whatever a call raises, including NotTogether, often wrapped in MLflow's exceptions; then nothing was
            stored, and the calls can be made one by one.
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
    raise NotTogether("a call inside the shared transaction rolled back")
