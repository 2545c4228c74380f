"""TrialSpec, the complete input of a trial as JSON, so that it can run in a forked child, under torchrun or by hand."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.atomic_files import left_over, write_whole
from studies.common.moved import moved_with
from studies.common.regular_files import read_text
from studies.protocol.spec_fields import check_kinds, malformed_is_value_error


@dataclass(frozen=True)
class TrialSpec:
    """Everything that a trial needs: `python -m studies.trial spec.json` runs it by hand.

    Attributes:
        run_id: MLflow run id, also the name of the trial's folder.
        experiment: model, data, trainer, optimizer and lr_scheduler sections as written, with overrides and
            sampled values applied; the trial process parses them as LightningCLI does.
        seed: training seed: weights, order of samples, dropout.
        folder: the trial's folder; events.jsonl, checkpoints/ and artifacts/ with log.txt are written there.
        name: name of the experiment; "" in specifications of older versions.
        study: name of the study, or None for a single run.
        number: number of the trial in its study, from 0.
        params: the sampled parameters, by dotted name.
        metric: name of the metric that selects the best checkpoint and that pruners use, e.g. "val/accuracy".
        direction: "maximize" or "minimize".
        further: the further objectives, metric -> direction; their values are reported with those of the metric.
        pruning: wait for the driver's verdict after each value of the metric.
        test: evaluate the best checkpoint once on the test set after the fit.
        resume: checkpoint to resume from, or None to start from scratch.
        extends: the trial had ended and is continued for more epochs.
        threads: CPU threads of this process; 0 leaves PyTorch's default.
        gpu: index of the only GPU that this trial may use, or None for all visible ones.
        search_path: folders with user modules, which come first on sys.path.
        data_sets: of each split, what the preflight check found; see studies.trial.data_fingerprint.
        trusted: objects in its checkpoint may be unpickled, which can run code; see studies.common.trust.
    """

    run_id: str
    experiment: dict[str, Any]
    seed: int
    folder: str
    name: str = ""
    study: str | None = None
    number: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    metric: str | None = None
    direction: str = "maximize"
    further: dict[str, str] = field(default_factory=dict)
    pruning: bool = False
    test: bool = False
    resume: str | None = None
    extends: bool = False
    threads: int = 0
    gpu: int | None = None
    search_path: list[str] = field(default_factory=list)
    data_sets: dict[str, Any] = field(default_factory=dict)
    trusted: bool = True

    def save(self) -> Path:
        """Writes spec.json into the trial's folder and returns its path."""
        path = Path(self.folder) / "spec.json"
        fields = dataclasses.asdict(self)
        fields["experiment"] = _as_json(self.experiment)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in left_over(path.parent):  # by a process that died
            left.unlink(missing_ok=True)
        write_whole(path, json.dumps(fields, indent=1))
        return path

    @classmethod
    def load(cls, path: str | Path) -> TrialSpec:
        """Reads a spec.json. Its present location is the trial's folder, wherever it was written.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not the specification of a trial; the message names the file.
        """
        with malformed_is_value_error(path := Path(path)):
            fields = json.loads(read_text(path))
            check_kinds(fields)
            fields["experiment"] = _from_json(fields["experiment"])
            return cls(**moved_with(fields, path.absolute().parent))


ITEMS = "\0items"  # key for mappings that JSON cannot represent


def _as_json(value: Any) -> Any:
    """Encodes a config so that JSON round-trips it: YAML keys may be numbers, which JSON would turn into text."""
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _as_json(item) for key, item in value.items()}
        return {ITEMS: [[_as_json(key), _as_json(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set):
        return [_as_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    """Undoes _as_json."""
    if isinstance(value, dict):
        items = value[ITEMS] if ITEMS in value else value.items()
        return {_from_json(key): _from_json(item) for key, item in items}
    return [_from_json(item) for item in value] if isinstance(value, list) else value
