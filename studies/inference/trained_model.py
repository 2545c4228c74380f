"""Finds trained models: by run, checkpoint, run on a server, or registered model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.common.state_folder import StateFolder
from studies.config.yaml_io import load_yaml
from studies.protocol.checkpoint_files import BEST, FOLDER
from studies.protocol.trial_spec import TrialSpec

REGISTERED = re.compile(r"models:/([^/@]+)(?:@([\w.-]+)|/(\d+))$")


@dataclass
class Trained:
    """A trained model: its experiment's sections, its seed, and the checkpoint with its weights.

    Attributes:
        search_path: folders with user modules.
    """

    experiment: dict[str, Any]
    seed: int
    checkpoint: Path
    run_id: str
    search_path: list[str]


def find(model: str, state_folder: StateFolder, scratch: Path) -> Trained:
    """Finds a model by a run id or prefix, a checkpoint's path, or models:/NAME@ALIAS (or /VERSION).

    Args:
        scratch: an empty folder for downloads.

    Raises:
        ValueError: in one line: unknown model, or it was never trained.
    """
    if model.startswith("models:"):
        match = REGISTERED.match(model)
        if not match:
            raise ValueError(f"a registered model must be models:/NAME@ALIAS or models:/NAME/VERSION, but got {model}")
        return _of_run(_tracking(state_folder).models.run_of_model(*match.groups()), state_folder, scratch)
    path = Path(model)
    if path.suffix == ".ckpt" or path.is_file():
        return _of_checkpoint(path)
    folders = sorted(state_folder.folder.glob(f"trials/{model}*")) if re.fullmatch(r"[0-9a-f]+", model) else []
    if len(folders) > 1:
        raise ValueError(f"{len(folders)} runs begin with {model}: give a longer prefix")
    return _of_run(folders[0].name if folders else model, state_folder, scratch)


def experiment_of(trained: Trained, state_folder: StateFolder) -> str:
    """The name of a model's experiment, or its class in lower case if no database has its run."""
    try:
        return str(_tracking(state_folder).run(trained.run_id).experiment)
    except ValueError:
        return str(trained.experiment["model"]["class_path"]).rpartition(".")[2].lower()


def newest_first(state_folder: StateFolder) -> Iterator[Trained]:
    """The trained models in this folder, newest first."""
    checkpoints = state_folder.folder.glob(f"trials/*/{FOLDER}/{BEST}")
    for path in sorted(checkpoints, key=lambda path: path.stat().st_mtime, reverse=True):
        if (path.parent.parent / "spec.json").is_file():
            yield _of_checkpoint(path)


def _of_checkpoint(path: Path) -> Trained:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    for spec in (path.parent.parent / "spec.json", path.parent / "spec.json"):
        if spec.is_file():
            trial = TrialSpec.load(spec)
            return Trained(trial.experiment, trial.seed, path, trial.run_id, trial.search_path)
    raise ValueError(f"{path} is not in a trial's folder: there is no spec.json of a trial next to it or one folder up")


def _of_run(run_id: str, state_folder: StateFolder, scratch: Path) -> Trained:
    folder = state_folder.trial_folder(run_id)
    checkpoint = folder / FOLDER / BEST
    if (folder / "spec.json").is_file() and checkpoint.is_file():
        return _of_checkpoint(checkpoint)
    tracking = _tracking(state_folder)
    run = tracking.run(run_id)  # raises if there is none
    if f"{FOLDER}/{BEST}" not in tracking.files(run_id, FOLDER):
        raise ValueError(f"run {run_id} ({run.kind or 'of another program'}, {run.status}) has no trained model")
    checkpoint = tracking.fetch(run_id, f"{FOLDER}/{BEST}", scratch)
    config = load_yaml(tracking.fetch(run_id, "config.yaml", scratch).read_text(encoding="utf-8"))
    return Trained(config, config["seed"], checkpoint, run_id, [str(Path.cwd())])


def _tracking(state_folder: StateFolder) -> Any:
    state_folder.check()
    if state_folder.tracking_uri.startswith("sqlite") and not (state_folder.folder / "mlflow.db").exists():
        raise ValueError(f"there are no runs in {state_folder.folder} (set HARNESS_HOME to use another folder)")
    from studies.tracking.client import Tracking

    return Tracking(state_folder.tracking_uri, None)
