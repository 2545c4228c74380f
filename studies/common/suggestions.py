"""The hint every message about a wrong name carries: the nearest right one, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str], prefix: str = "") -> str:
    """`; did you mean X? (allowed: ...)`, or only the allowed names where none is near."""
    names = sorted(str(item) for item in allowed)
    listed = f" (allowed: {', '.join(prefix + item for item in names)})" if names else ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return (f"; did you mean {prefix}{near[0]}?" if near else "") + listed
