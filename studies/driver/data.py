"""What a command knows of its experiment's data: fingerprints, overlap of splits, and whether they have changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.data_changes import OVERLAP, data_changed, digests_of
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import DataSet


@dataclass
class Data:
    """What the preflight check saw of the data.

    Attributes:
        splits: split -> what trials need to recognize it; see studies.trial.data_fingerprint.
        overlap: a line for each two splits with equal samples.
    """

    splits: dict[str, Any] = field(default_factory=dict)
    overlap: list[str] = field(default_factory=list)

    @property
    def digests(self) -> dict[str, str]:
        return digests_of(self.splits)

    @property
    def tags(self) -> dict[str, str]:
        """Tags of a run or of a study's own run."""
        return {OVERLAP: "; ".join(self.overlap)} if self.overlap else {}

    def warn(self, say: Callable[[str], None]) -> None:
        for line in self.overlap:
            say(f"overlap: {line}")

    def changed_since(self, folder: Path) -> str | None:
        """A line for the user if the run in this folder was trained on other data."""
        before = {}
        if (folder / NAME).is_file():
            for event in EventReader(folder / NAME).read():
                if isinstance(event, DataSet) and event.read:
                    before[event.split] = event.digest
        return data_changed(before, self.digests)
