"""Answers of `--json`: one line, which any parser of JSON understands. Standard library only."""

from __future__ import annotations

import json
import math
from typing import Any


def json_line(answer: Any) -> str:
    """An answer as one line of strict JSON: NaN and infinities, which JSON does not have, are null."""
    return json.dumps(_strict(answer), allow_nan=False, default=str)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
