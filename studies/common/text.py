"""Cleans texts for files, databases and terminals; formats errors."""

from __future__ import annotations

import json
import re
from typing import Any

from studies.common.redaction import redacted

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # built once: it is called by the training thread
# C0 but for tab and newline, DEL, C1, and what changes the direction of writing or ends a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
ERROR_LIMIT, TRACEBACK_LIMIT = 2_000, 20_000  # characters in an event; log.txt has the full text


def clean_text(text: str, limit: int | None = None) -> str:
    """Makes a text safe for terminals, files and databases: secrets are hidden, lone surrogates and NUL become escapes.

    Args:
        limit: longer texts keep this many characters, half from each end.
    """
    text = redacted(text)
    if limit is not None and len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters omitted ...] {text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def visible(text: str) -> str:
    """A text for a terminal: secrets are hidden; its control characters are shown, as \\x1b, and not obeyed.

    Names, metrics, errors and logs may come from anybody, and could move the cursor, set the window's title, or turn
    the direction of writing round. Line ends and tabs stay.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), redacted(text))


def clean_json(value: Any) -> str:
    """A plain value as JSON with cleaned texts."""
    line = _ENCODE(value)
    if "\\ud" in line or "\\u0000" in line:  # how JSON writes surrogates, including valid pairs
        line = _ENCODE(_cleaned(value))
    return line


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def error_text(error: BaseException) -> str:
    """Formats an exception from user code: class and message; its __str__ may itself fail."""
    name = type(error).__name__
    if type(error) is SystemExit:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning converts it to SystemExit
            return "KeyboardInterrupt, raised within the trial"
        return clean_text(f"the trial called sys.exit({error.code!r})", ERROR_LIMIT)
    try:
        said = str(error)
    except Exception as failure:
        said = f"(no message: __str__ raised {type(failure).__name__})"
    return clean_text(f"{name}: {said}" if said else name, ERROR_LIMIT)
