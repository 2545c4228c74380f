"""The output of `--json`: one line of strict JSON, which any parser accepts. Standard library only."""

from __future__ import annotations

import json
import math
from typing import Any

from studies.common.redaction import redacted


def json_line(answer: Any) -> str:
    """One line of strict JSON; NaN and infinities, which JSON lacks, become null. Secrets are hidden."""
    return json.dumps(_strict(answer), allow_nan=False, default=str)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, str):
        return redacted(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
