"""The hint in messages about unknown names: the closest valid name, and all valid names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, allowed: Iterable[str], prefix: str = "") -> str:
    """`; did you mean X? (allowed: ...)`, or only the allowed names if none is close."""
    names = sorted(str(item) for item in allowed)
    listed = f" (allowed: {', '.join(prefix + item for item in names)})" if names else ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return (f"; did you mean {prefix}{near[0]}?" if near else "") + listed
