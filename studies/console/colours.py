"""Colours of a terminal; see also studies/plots/colours.py for pictures."""

from __future__ import annotations

import os
from typing import TextIO


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colours, and NO_COLOR is not set."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb") and not os.environ.get("NO_COLOR")


def in_yellow(text: str) -> str:
    """A text in yellow, with any spaces before it left as they are."""
    word = text.lstrip()
    return f"{text[: len(text) - len(word)]}\x1b[33m{word}\x1b[0m"
