"""Replaces what looks like a secret in texts that are printed or stored: passwords, tokens and private keys.

The patterns are listed in docs/security.md. Values are recognized by where they stand (a URL's user and password, an
option, an assignment), by their form (tokens of well-known services), or because this process knows them as secrets.
Standard library only.
"""

from __future__ import annotations

import os
import re
from functools import cache

HIDDEN = "***"
SHORTEST = 6  # characters; shorter values of variables are too likely to be other words
# Environment variables whose values are secrets: names that end in one of these words.
VARIABLE = re.compile(r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY)$", re.I)

_NAME = r"(?:password|passwd|passphrase|secret|secret[_-]?key|api[_-]?key|access[_-]?key|(?:access|auth)[_-]?token)"
# Every repetition has a limit: the time to look through a text has to grow no faster than the text.
_AFTER = [  # what stays, then what is hidden
    # scheme://user:password@host
    r"""(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@'"<>?#:]{0,200}:(?!\d+(?:[/?#]|$))[^\s@'"<>]{0,1000}(?=@)""",
    # a URL's query
    r"""([?&;](?:sig|signature|token|pwd|sslpassword|[\w-]{0,40}""" + _NAME + r""")=)[^&\s'"]{1,5000}""",
    r"(--[\w.-]{0,100}" + _NAME + r"(?:=|[ ]{1,9}))(?!--)[^\s]{1,5000}",  # an option of a command
    r"(--notify(?:=|[ ]{1,9}))(?!--)[^\s]{1,5000}",  # an address that anybody could post to
    # password = "..." in code, YAML, JSON
    r"(\b[\w.-]{0,40}" + _NAME + r"""["']?[ ]{0,9}[=:][ ]{0,9}["'])[^"'\n]{6,5000}(?=["'])""",
    r"(\b[A-Z0-9_]{0,40}" + _NAME.upper() + r"=)[^\s\"'()\[\]]{6,5000}",  # PASSWORD=... in a shell script
    r"(\bauthorization[\"']?: {0,9}[\"']?(?:bearer|basic) {1,9})[^\s\"']{1,5000}",
]
_FORMS = [
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
    r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{22,}",
    r"\bglpat-[\w-]{20,}",
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\bsk-[\w-]{20,}",  # OpenAI, Anthropic
    r"\bxox[abprs]-[\w-]{10,}",  # Slack
    r"\bAIza[\w-]{35}",  # Google
    r"\bnpm_[A-Za-z0-9]{36}",
    r"\bpypi-AgE[\w-]{50,}",
    r"\bdapi[0-9a-f]{32}",  # Databricks
]
_SECRET = re.compile(
    "|".join([rf"(?P<after{i}>(?i:{pattern}))" for i, pattern in enumerate(_AFTER)] + [f"(?:{'|'.join(_FORMS)})"])
)
_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(.*?)(-----END|\Z)", re.DOTALL)
_KEY_LINE = re.compile(r"(?<=[^\n])[A-Za-z0-9+/=]{15,}")  # the first character may be a diff's +
_told: set[str] = set()


def remember(value: str) -> None:
    """Hides a value in all later texts of this process, wherever it stands as a word of its own."""
    if value:
        _told.add(value)
        _known.cache_clear()


def redacted(text: str) -> str:
    """A text in which every secret that is recognized is replaced by ***; the number of lines stays."""
    known = _known()
    if known is not None:
        text = known.sub(HIDDEN, text)
    text = _SECRET.sub(_hide, text)
    if "PRIVATE KEY" in text:
        text = _KEY.sub(lambda match: match[1] + _KEY_LINE.sub(HIDDEN, match[2]) + match[3], text)
    return text


def without_secrets(arguments: list[str]) -> list[str]:
    """Arguments of a command, as many, with *** for what is secret in them."""
    shown = [redacted(argument) for argument in arguments]
    for index, argument in enumerate(arguments[:-1]):
        if redacted(f"{argument} x") != f"{redacted(argument)} x":  # an option whose value is secret
            shown[index + 1] = HIDDEN
    return shown


def _hide(match: re.Match[str]) -> str:
    """Keeps what stands before the secret, which is the innermost group of its pattern."""
    whole = match.lastgroup
    if whole is None:
        return HIDDEN
    return match[match.re.groupindex[whole] + 1] + HIDDEN


@cache
def _known() -> re.Pattern[str] | None:
    """Values that this process knows to be secret."""
    found = {value for name, value in os.environ.items() if VARIABLE.search(name) and len(value) >= SHORTEST}
    words = sorted(found | _told, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)) if words else None
