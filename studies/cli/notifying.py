"""`--notify URL`: posts a JSON object when a command that trains has ended or failed.

The URL may be a secret, as those of chat services are: only its host is ever shown. See docs/terminal.md.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from studies.cli.bad_input import BadInput
from studies.cli.streams import show
from studies.common.errors import in_one_line
from studies.common.redaction import remember
from studies.common.strict_json import json_line
from studies.console.tables import duration_text, number_text

if TYPE_CHECKING:
    from studies.driver.session import Result

SECONDS = 5.0  # that a command waits for the answer, after all of its work and output


@contextlib.contextmanager
def notifying(url: str | None, command: str, name: str) -> Iterator[Callable[[Result], None]]:
    """Posts how the work within the block ended: the Result that the yielded function is called with, or an error.

    Args:
        url: http:// or https://, or None to post nothing.
        command: "train", "resume", "study" or "extend".
        name: of the experiment, run or study, as it was asked for.

    Raises:
        BadInput: it is another kind of URL.
    """
    parts, began = None if url is None else _checked(url), time.monotonic()
    about: dict[str, Any] = {"command": command, "name": name, "status": "failed", "error": None}

    def tell(result: Result) -> None:
        about.update(_described(result))

    try:
        yield tell
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        about |= {"status": "interrupted" if stopped else "failed", "error": in_one_line(error)}
        raise
    finally:
        if parts is not None:
            about["wall_seconds"] = round(time.monotonic() - began, 3)
            _post(parts, {"text": _text(about), **about, "host": socket.gethostname()})


def _checked(url: str) -> SplitResult:
    remember(url)
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid or not url.isascii() or any(character <= " " for character in url):
        raise BadInput("notify must be a URL that begins with http:// or https:// and has a host")
    remember(parts.password or "")
    return parts


def _described(result: Result) -> dict[str, Any]:
    """A result without its trials, of which there may be thousands."""
    names = ("study", "run_id", "metric", "direction", "best", "metrics", "test", "error")
    fields = {name: result.fields[name] for name in names if name in result.fields}
    if "trials" in result.fields:
        fields["trials"] = dict(Counter(row["state"].lower() for row in result.fields["trials"]))
    return {"error": None, **fields, "status": result.status}


def _text(about: dict[str, Any]) -> str:
    """The message in one line, which chat services show."""
    parts = [f"{about['command']} {about['name']} {about['status']} in {duration_text(about['wall_seconds'])}"]
    best = about.get("best")
    if best and best["value"] is not None:
        parts.append(f"best {about['metric']} {number_text(best['value'])} (trial {best['number']})")
    if about.get("trials"):
        parts.append(", ".join(f"{count} {state}" for state, count in about["trials"].items()))
    return ": ".join([parts[0], ", ".join(filter(None, [*parts[1:], about["error"]]))]).removesuffix(": ")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # which is an error: the secret of the URL goes to its host alone


def _post(parts: SplitResult, about: dict[str, Any]) -> None:
    """Posts, for at most SECONDS; a failure is one line and nothing else."""
    address = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(
        urlunsplit((parts.scheme, address, parts.path, parts.query, "")),
        json_line(about).encode(),
        {"Content-Type": "application/json", "User-Agent": "harness"},
    )
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    failures: list[str] = ["no answer"]

    def send() -> None:
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS):
                failures.clear()
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures[:] = [in_one_line(error)]

    thread = threading.Thread(target=send, name="notification", daemon=True)  # a slow server could drip for hours
    thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        thread.join(SECONDS)
    if failures:
        show(f"harness: the notification could not be sent to {parts.hostname}: {failures[0]}", file=sys.stderr)
