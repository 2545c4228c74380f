"""RunInfo, a run as shown by commands."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.tracking.data_sets import DataSetInfo

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


PARENTS = ("replicates", "confirm")  # kinds of runs above single runs


@dataclass
class RunInfo:
    """A run as `harness runs` and `compare` show it. `data`: split (train, val, test) -> its data sets."""

    run_id: str
    experiment: str
    study: str | None
    name: str
    kind: str
    status: str
    start_time: float
    end_time: float | None = None
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifact_uri: str = ""
    data: dict[str, list[DataSetInfo]] = field(default_factory=dict)

    def is_spread(self, name: str) -> bool:
        """Whether a metric of a parent only says how widely another one is spread over seeds."""
        base, _, word = name.rpartition("/")
        return self.kind in PARENTS and word in ("std", "low", "high") and base in self.metrics

    def spread(self, name: str) -> str:
        """Half the width of a metric's interval over seeds, such as " ± 0.012"; "" if it has none."""
        low, high = self.metrics.get(f"{name}/low"), self.metrics.get(f"{name}/high")
        return "" if low is None or high is None else f" ± {(high - low) / 2:.2g}"

    def to_json(self) -> dict[str, Any]:
        names = (
            "run_id",
            "experiment",
            "study",
            "name",
            "kind",
            "status",
            "start_time",
            "end_time",
            "params",
            "metrics",
        )
        return {name: getattr(self, name) for name in names}
