"""A trial's data sets as MLflow's dataset inputs, which its UI shows with each run and can filter by."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from studies.protocol.events import DataSet
from studies.protocol.metric_names import stored_text

CONTEXT = "mlflow.data.context"  # MLflow's tag of what a data set is used for
USES = {"train": "training", "val": "validation", "test": "testing"}
NAME, DIGEST = 500, 36  # MLflow's limits, in characters


@dataclass(frozen=True)
class DataSetInfo:
    """A run's data set, as `harness compare` and `harness diff` show it. See events.DataSet for the attributes."""

    name: str
    digest: str
    samples: int | None
    read: int | None
    classes: dict[str, int]

    def described(self) -> str:
        """Its name and digest; that it is of part of the samples, if so."""
        part = self.read is not None and self.samples is not None and self.read < self.samples
        read = f" ({self.read} of {self.samples} read)" if part else ""
        return f"{self.name.partition(' ')[0]} {self.digest}{read}"


def data_sets_of(inputs: Iterable[DatasetInput]) -> dict[str, list[DataSetInfo]]:
    """Split -> data sets, of a run's inputs. There are several if a run resumed with other data."""
    found: dict[str, list[DataSetInfo]] = {}
    splits = {use: split for split, use in USES.items()}
    for item in inputs:
        use = next((tag.value for tag in item.tags if tag.key == CONTEXT), "")
        profile: Any = {}
        with contextlib.suppress(ValueError):
            profile = json.loads(item.dataset.profile or "{}")
        profile = profile if isinstance(profile, dict) else {}
        samples, read = (_integer(profile.get(name)) for name in ("num_rows", "rows_in_digest"))
        counts = profile.get("class_counts")
        classes = {key: value for key, value in counts.items() if _integer(value)} if isinstance(counts, dict) else {}
        info = DataSetInfo(item.dataset.name, item.dataset.digest, samples, read, classes)
        found.setdefault(splits.get(use, use), []).append(info)
    return {split: sorted(infos, key=lambda info: info.digest) for split, infos in found.items()}


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None


def data_set_input(event: DataSet) -> DatasetInput:
    """The dataset input of an event. Its source is code: what makes the data set."""
    source = {"mlflow.source.type": "LOCAL", "mlflow.source.name": stored_text(event.source)}
    about = {"num_rows": event.samples, "rows_in_digest": event.read, "class_counts": event.classes or None}
    profile = {name: value for name, value in about.items() if value is not None}
    data_set = Dataset(
        name=stored_text(event.name, NAME),
        digest=stored_text(event.digest, DIGEST),
        source_type="code",
        source=json.dumps({"tags": source}),
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(data_set, [InputTag(CONTEXT, USES.get(event.split, stored_text(event.split, NAME)))])
