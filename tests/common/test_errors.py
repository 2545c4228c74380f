import errno
import http.client
import sqlite3

import pytest

from studies.common import errors as trouble
from studies.common.errors import StorageFailed, disk_is_full, in_one_line, is_transient, retry_transient


def wrapped(error: BaseException) -> RuntimeError:
    """Wraps the relevant error in another one, as libraries do."""
    try:
        try:
            raise error
        except BaseException as inner:
            raise RuntimeError("something went wrong; see https://help.example") from inner
    except RuntimeError as outer:
        return outer


FULL = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "quota")]
FULL += [sqlite3.OperationalError("database or disk is full")]
PASSING = [sqlite3.OperationalError("database is locked"), ConnectionRefusedError(111, "Connection refused")]
PASSING += [RuntimeError("API request failed: HTTPConnectionPool: Max retries exceeded with url: /api")]
PASSING += [http.client.IncompleteRead(b"", 2817), http.client.RemoteDisconnected("Remote end closed connection")]
REST = [sqlite3.OperationalError("no such table: runs"), ValueError("x"), OSError(errno.EACCES, "Permission denied")]


@pytest.mark.parametrize("error", [*FULL, *PASSING, *REST])
@pytest.mark.parametrize("inside", [False, True])
def test_errors_are_classified_however_wrapped(error: Exception, inside: bool) -> None:
    seen = wrapped(error) if inside else error
    assert disk_is_full(seen) == (error in FULL)
    assert is_transient(seen) == (error in PASSING)


def test_the_one_line_message_is_the_innermost_cause_without_sql() -> None:
    error = wrapped(
        RuntimeError("(sqlite3.OperationalError) database is locked\n[SQL: INSERT INTO x]\n(Background: y)")
    )
    assert in_one_line(error) == "(sqlite3.OperationalError) database is locked"


def test_temporary_errors_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble.time, "sleep", lambda seconds: None)
    answers: list[Exception | int] = [PASSING[0], PASSING[1], 7]
    heard: list[str | None] = []

    def work() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry_transient(work, heard.append) == 7
    assert heard == ["database is locked", "[Errno 111] Connection refused", None]


def test_retries_end_and_a_full_disk_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble.time, "sleep", lambda seconds: None)

    def fail_with(error: Exception) -> None:
        raise error

    with pytest.raises(StorageFailed, match="locked"):
        retry_transient(lambda: fail_with(PASSING[0]), patience=lambda: 0.0)
    with pytest.raises(StorageFailed, match="no space left"):
        retry_transient(lambda: fail_with(FULL[0]))
    with pytest.raises(ValueError, match="x"):
        retry_transient(lambda: fail_with(ValueError("x")))
