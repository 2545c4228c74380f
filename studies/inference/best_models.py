"""The trained models of a state folder, the best first: champions, then by the metric that selected the checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studies.common.objective import rank_key
from studies.common.regular_files import open_regular
from studies.common.state_folder import StateFolder
from studies.inference.trained_model import Trained, of_checkpoint, tracking_of
from studies.protocol.checkpoint_files import BEST, FOLDER
from studies.protocol.event_log import NAME
from studies.protocol.events import Finished, parse_event
from studies.protocol.trial_spec import TrialSpec

TAIL = 200_000  # bytes at the end of a log, in which its last ending is looked for


@dataclass
class Candidate:
    """A trained model, before it is opened.

    Attributes:
        written: when its checkpoint was, in seconds since 1970.
        value: the metric of the checkpoint; None if the run did not finish or has no metric.
        champion: name of the registered model that it is the champion of, or "".
    """

    checkpoint: Path
    written: float
    run_id: str
    data: str
    metric: str | None
    direction: str
    value: float | None
    champion: str = ""

    def open(self, trust: bool) -> Trained:
        """Raises a ValueError if its specification cannot be used."""
        return of_checkpoint(self.checkpoint, trust)

    def why(self) -> str:
        """What it is chosen for, such as "champion of mnist_mlp, val/accuracy 0.9871"."""
        reached = f"{self.metric} {self.value:.4g}" if self.value is not None else ""
        named = f"champion of {self.champion}" if self.champion else ""
        return ", ".join(filter(None, (named, reached)))


def best_first(state_folder: StateFolder) -> list[Candidate]:
    """The trained models in this folder: champions first, then the others.

    Values of different metrics, or on different data, cannot be compared: the newest model of each kind decides when
    that kind's turn comes, and within it the best value is first, then what has no value, newest first.
    """
    found = sorted(_candidates(state_folder), key=lambda item: -item.written)
    names = _champions(state_folder) if found else {}
    for item in found:
        item.champion = names.get(item.run_id, "")
    return [
        *_ordered([item for item in found if item.champion]),
        *_ordered([item for item in found if not item.champion]),
    ]


def _ordered(newest_first: list[Candidate]) -> Iterator[Candidate]:
    kinds: dict[tuple[str, str | None, str], list[Candidate]] = {}
    for item in newest_first:
        kinds.setdefault((item.data, item.metric, item.direction), []).append(item)
    for (_, _, direction), items in kinds.items():
        ranked = [(item.value, place, item) for place, item in enumerate(items) if item.value is not None]
        yield from (item for _, _, item in sorted(ranked, key=lambda row: rank_key(row[0], row[1], direction)))
        yield from (item for item in items if item.value is None)


def _candidates(state_folder: StateFolder) -> Iterator[Candidate]:
    for path in state_folder.folder.glob(f"trials/*/{FOLDER}/{BEST}"):
        folder = path.parent.parent
        with contextlib.suppress(ValueError, OSError):  # `harness doctor` names a specification that cannot be read
            spec = TrialSpec.load(folder / "spec.json")
            data = str((spec.experiment.get("data") or {}).get("class_path"))
            value = _value(folder / NAME, spec.metric)
            yield Candidate(path, path.stat().st_mtime, spec.run_id, data, spec.metric, spec.direction, value)


def _value(log: Path, metric: str | None) -> float | None:
    """What the best checkpoint reached, by the last ending in a log."""
    with contextlib.suppress(OSError, ValueError), open_regular(log) as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        for line in reversed(file.read().splitlines()):
            if b'"finished"' in line and isinstance(event := parse_event(line), Finished):
                value = event.summary.get(f"best/{metric}") if event.value is None else event.value
                return value if value is not None and value == value else None
    return None


def _champions(state_folder: StateFolder) -> dict[str, str]:
    """Run id -> name of the registered model whose champion it is; none if there is no database to ask."""
    with contextlib.suppress(ValueError):
        champions: dict[str, str] = tracking_of(state_folder).models.champions()
        return champions
    return {}
