"""A thread that owns the tracking, so that neither training nor the search ever waits for its database."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any


class TrackingQueue:
    """Calls to a Tracking, in order, on one thread that also imports mlflow (5 s) while others warm up."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._pool.submit(_import)
        self._tracking: Any = None
        self._open: list[Future[Any]] = []

    def connect(self, uri: str, artifacts: Path | None) -> None:
        """Opens the database or server; it is made here if it is not there.

        Raises:
            ValueError: see Tracking.
        """
        if self._tracking is None:
            self._tracking = self._pool.submit(_connect, uri, artifacts).result()

    def get(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the Tracking, after all that was put before, and returns its result."""
        return self._pool.submit(getattr(self._tracking, method), *arguments).result()

    def put(self, method: str, *arguments: Any) -> None:
        """Calls a method of the Tracking soon. What it raises is raised by a later call of `check`."""
        self._open.append(self._pool.submit(getattr(self._tracking, method), *arguments))

    def check(self) -> None:
        """Raises what a call that was put has raised, if any has."""
        while self._open and self._open[0].done():
            self._open.pop(0).result()

    def close(self) -> None:
        """Waits until everything is written."""
        self._pool.shutdown(wait=True)
        self.check()


def _import() -> None:
    import studies.tracking  # noqa: F401


def _connect(uri: str, artifacts: Path | None) -> Any:
    from studies.tracking import Tracking

    return Tracking(uri, artifacts)
