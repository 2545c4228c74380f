"""Texts that files, databases and terminals take, and what an error says."""

from __future__ import annotations

import json
from typing import Any

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # it is called by the thread that trains
ERROR_LIMIT, TRACEBACK_LIMIT = 2_000, 20_000  # characters of them in an event; log.txt has all


def clean_text(text: str, limit: int | None = None) -> str:
    """A text that terminals, files and databases take: without lone surrogates and NUL, which are written as escapes.

    Args:
        limit: characters that are kept of a longer one, the first half and the last.
    """
    if limit is not None and len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters are left out ...] {text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def clean_json(value: Any) -> str:
    """JSON of some plain value, all of whose texts are clean."""
    line = _ENCODE(value)
    if "\\ud" in line or "\\u0000" in line:  # how it writes surrogates, the pairs among them too
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
    """What a user's code raised, as text for people: its class and what it says, which may be anything or fail."""
    name = type(error).__name__
    if type(error) is SystemExit:
        if isinstance(error.__context__, KeyboardInterrupt):  # what Lightning makes of it
            return "KeyboardInterrupt, raised within the trial"
        return clean_text(f"the trial called sys.exit({error.code!r})", ERROR_LIMIT)
    try:
        said = str(error)
    except Exception as failure:
        said = f"(its text cannot be had: __str__ raised {type(failure).__name__})"
    return clean_text(f"{name}: {said}" if said else name, ERROR_LIMIT)
