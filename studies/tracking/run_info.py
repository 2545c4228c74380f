"""RunInfo, a run as shown by commands."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


@dataclass
class RunInfo:
    """A run as `harness runs` and `compare` show it."""

    run_id: str
    experiment: str
    study: str | None
    name: str
    kind: str
    status: str
    start_time: float
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifact_uri: str = ""

    def to_json(self) -> dict[str, Any]:
        names = ("run_id", "experiment", "study", "name", "kind", "status", "params", "metrics")
        return {name: getattr(self, name) for name in names}
