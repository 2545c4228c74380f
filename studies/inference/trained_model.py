"""Finds trained models: by run, checkpoint, run on a server, or registered model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.common.state_folder import StateFolder, is_run_id
from studies.common.trust import contains, is_own, remember
from studies.config.yaml_io import load_yaml
from studies.protocol.checkpoint_files import BEST, FOLDER
from studies.protocol.trial_spec import TrialSpec

REGISTERED = re.compile(r"models:/([^/@]+)(?:@([\w.-]+)|/(\d+))$")


@dataclass
class Trained:
    """A trained model: its experiment's sections, its seed, and the checkpoint with its weights.

    Attributes:
        trusted: whether the experiment may name any class, and the search path is used; see restored_classes.py.
        search_path: folders with user modules.
    """

    experiment: dict[str, Any]
    seed: int
    checkpoint: Path
    run_id: str
    search_path: list[str]
    trusted: bool = True


def find(model: str, state_folder: StateFolder, scratch: Path, trust: bool = False) -> Trained:
    """Finds a model by a run id or prefix, a checkpoint's path, or models:/NAME@ALIAS (or /VERSION).

    Args:
        scratch: an empty folder for downloads.
        trust: follow a specification that came from elsewhere, too; see studies.common.trust.

    Raises:
        ValueError: in one line: unknown model, it was never trained, or its state folder came from elsewhere and the
            current folder is in it.
    """
    if model.startswith("models:"):
        match = REGISTERED.match(model)
        if not match:
            raise ValueError(f"a registered model must be models:/NAME@ALIAS or models:/NAME/VERSION, but got {model}")
        return _of_run(tracking_of(state_folder).models.run_of_model(*match.groups()), state_folder, scratch, trust)
    path = Path(model)
    if path.suffix == ".ckpt" or path.is_file():
        return of_checkpoint(path, trust)
    folder = state_folder.run_folder_or_none(model)
    return _of_run(folder.name if folder else model, state_folder, scratch, trust)


def experiment_of(trained: Trained, state_folder: StateFolder) -> str:
    """The name of a model's experiment, or its class in lower case if no database has its run."""
    try:
        return str(tracking_of(state_folder).run(trained.run_id).experiment)
    except ValueError:
        return str(trained.experiment["model"]["class_path"]).rpartition(".")[2].lower()


def of_checkpoint(path: Path, trust: bool) -> Trained:
    """The model of a checkpoint in a trial's folder, or among its artifacts.

    Raises:
        ValueError: as `find` does.
    """
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    for spec in (path.parent.parent / "spec.json", path.parent / "spec.json"):
        if spec.is_file():
            trial = TrialSpec.load(spec)
            state = spec.resolve().parents[2]
            if trust:
                remember(state)
            trusted = trust or is_own(state)
            if not trusted and contains(state, Path.cwd()):
                raise ValueError(
                    f"the current folder is in {state}, which was not made by you on this machine: classes would be "
                    "imported from it; go elsewhere, or give --trust if you trust who made it"
                )
            places = trial.search_path if trusted else []
            return Trained(trial.experiment, trial.seed, path, trial.run_id, places, trusted)
    raise ValueError(f"{path} is not in a trial's folder: there is no spec.json of a trial next to it or one folder up")


def _of_run(run_id: str, state_folder: StateFolder, scratch: Path, trust: bool) -> Trained:
    if not is_run_id(run_id):
        raise ValueError(f"unknown run {run_id}: `harness runs` lists them")
    folder = state_folder.trial_folder(run_id)
    checkpoint = folder / FOLDER / BEST
    if (folder / "spec.json").is_file() and checkpoint.is_file():
        return of_checkpoint(checkpoint, trust)
    tracking = tracking_of(state_folder)
    run = tracking.run(run_id)  # raises if there is none
    if f"{FOLDER}/{BEST}" not in tracking.files(run_id, FOLDER):
        raise ValueError(f"run {run_id} ({run.kind or 'of another program'}, {run.status}) has no trained model")
    checkpoint = tracking.fetch(run_id, f"{FOLDER}/{BEST}", scratch)
    config = load_yaml(tracking.fetch(run_id, "config.yaml", scratch).read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("seed"), int):
        raise ValueError(f"run {run_id} has a config.yaml that is no experiment")
    return Trained(config, config["seed"], checkpoint, run_id, [str(Path.cwd())] if trust else [], trust)


def tracking_of(state_folder: StateFolder) -> Any:
    """The tracking of a state folder, for reading.

    Raises:
        ValueError: there are no runs, or the server does not answer.
    """
    state_folder.check()
    if state_folder.tracking_uri.startswith("sqlite") and not (state_folder.folder / "mlflow.db").exists():
        raise ValueError(f"there are no runs in {state_folder.folder} (set HARNESS_HOME to use another folder)")
    from studies.tracking.client import Tracking

    return Tracking(state_folder.tracking_uri, None)
