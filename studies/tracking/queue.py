"""A thread that makes all tracking calls, so that neither training nor the search waits for the database."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from studies.common.errors import PATIENCE, StorageFailed, in_one_line, retry_transient
from studies.tracking.tracker import Tracker, Writer

HURRY = 10.0  # seconds to wait for MLflow once the command wants to exit


class TrackingQueue:
    """Calls to a Tracking, in order, on one thread that also imports mlflow (5 s) while others warm up.

    While the database is locked or the server unreachable, calls queue up here; if they are never made, nothing is
    lost, since the event logs contain everything.

    Args:
        make: factory of a tracker that replaces MLflow's.

    Attributes:
        now: the tracker; a call is made after all queued ones and returns its result.
        soon: the same, but calls return immediately. Exceptions are raised by a later call of `check`.
        first: the same as `now`, but ahead of queued calls, of which the call must be independent.
        trouble: the temporary error that is being waited out, or None.
        meanwhile: called repeatedly while `now` waits.
        tell: called, on the caller's thread, with notices; see Tracking's `notice`.
    """

    def __init__(self, make: Callable[[], Tracker] | None = None) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._make = make
        if make is None:
            self._pool.submit(_import)
        self._tracking: Any = None
        self._open: list[Future[Any]] = []
        self._urgent: deque[tuple[Future[Any], str, tuple[Any, ...]]] = deque()
        self._failed: BaseException | None = None
        self._deadline: float | None = None
        self.now: Tracker = _Calls(self._get)  # type: ignore[assignment]
        self.soon: Writer = _Calls(self._put)  # type: ignore[assignment]
        self.first: Tracker = _Calls(self._get_first)  # type: ignore[assignment]
        self.trouble: str | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.tell: Callable[[str], None] = lambda line: None
        self._notices: deque[str] = deque()

    def connect(self, uri: str, artifacts: Path | None, **parts: Any) -> None:
        """Opens the database or server; creates the database if missing.

        Args:
            parts: Tracking's arguments `together` and `place`.

        Raises:
            ValueError: see Tracking.
        """
        if self._tracking is None and self._make is not None:
            self._tracking = self._result(self._pool.submit(self._make))
        elif self._tracking is None:
            tell = self._notices.append
            self._tracking = self._result(self._pool.submit(_connect, uri, artifacts, self._retry, tell, parts))

    def _get(self, method: str, *arguments: Any) -> Any:
        return self._result(self._pool.submit(self._call, method, arguments))

    def _get_first(self, method: str, *arguments: Any) -> Any:
        answer: Future[Any] = Future()
        self._urgent.append((answer, method, arguments))
        self._pool.submit(self._call_urgent)
        return self._result(answer)

    def _put(self, method: str, *arguments: Any) -> None:
        self._open.append(self._pool.submit(self._call, method, arguments))

    def check(self) -> None:
        """Raises the exception of a queued call, if any; passes on notices."""
        self._tell()
        while self._open and self._open[0].done():
            self._open.pop(0).result()

    def hurry(self) -> None:
        """From now on, waits only a few seconds for a locked database or an unreachable server."""
        self._deadline = self._deadline or time.monotonic() + HURRY

    def close(self) -> None:
        """Waits until everything is written."""
        while self._open:
            self._result(self._open.pop(0))
        self._pool.shutdown(wait=True)
        self._tell()

    def _tell(self) -> None:
        while self._notices:
            self.tell(self._notices.popleft())

    def _result(self, future: Future[Any]) -> Any:
        while not wait([future], 0.25).done:
            self.meanwhile()
        self._tell()
        return future.result()

    def _call_urgent(self) -> None:
        while self._urgent:
            answer, method, arguments = self._urgent.popleft()
            try:
                answer.set_result(self._call(method, arguments))
            except BaseException as error:
                answer.set_exception(error)

    def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self._call_urgent()
        if (
            self._failed is not None
        ):  # later calls alone would be inconsistent, e.g. a run that ended without its results
            raise StorageFailed(str(self._failed)) from self._failed
        try:
            return getattr(self._tracking, method)(*arguments)
        except ValueError:
            raise  # for the caller
        except Exception as error:
            self._failed = error
            if isinstance(error, OSError) or type(error).__module__.startswith("mlflow."):
                self._failed = StorageFailed(f"MLflow could not be written: {in_one_line(error)}")
            raise self._failed from error

    def _retry(self, work: Callable[[], Any]) -> Any:
        def notice(text: str | None) -> None:
            self.trouble = text

        def patience() -> float:
            return PATIENCE if self._deadline is None or time.monotonic() < self._deadline else 0.0

        return retry_transient(work, notice, patience)


class _Calls:
    """A tracker whose methods call a function with the method's name and the arguments."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return functools.partial(self._call, method)


def _import() -> None:
    import studies.tracking.client  # noqa: F401


def _connect(uri: str, artifacts: Path | None, retry: Any, notice: Callable[[str], None], parts: dict[str, Any]) -> Any:
    from studies.tracking.client import Tracking

    return Tracking(uri, artifacts, retry, notice, **parts)
