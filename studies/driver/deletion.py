"""`harness delete` removes runs and studies: in MLflow, in Optuna, and their folders. `harness gc` empties the trash.

A deleted run goes to MLflow's trash first, then its study leaves Optuna's database, then its folder goes; so whatever
is interrupted is found by the same command again. The trash keeps parameters and metrics until `harness gc`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.common.errors import WorkFailed
from studies.common.locks import Lease, may_live
from studies.common.short_ids import short_id
from studies.common.state_folder import StateFolder, is_run_id
from studies.common.suggestions import did_you_mean
from studies.common.trust import contains
from studies.protocol.event_log import NAME, is_being_written
from studies.protocol.metric_names import registered_name
from studies.tracking.artifact_folder import local_folder
from studies.tracking.run_info import PARENTS, RunInfo

CHAMPION = "harness.champion"  # tag of a study's run: its best trial was tested and registered
AT_ONCE = 500  # run ids on one command line of `mlflow gc`


@dataclass
class Target:
    """What is deleted together: a single run, or a study with its runs.

    Attributes:
        what: for the user, such as "study toy: 20 trials".
        study: its name in Optuna's database, or None.
        folders: of the runs, and of artifacts that are elsewhere in the state folder.
        size: bytes that are freed.
    """

    what: str
    runs: list[RunInfo]
    study: str | None = None
    folders: list[Path] = field(default_factory=list)
    size: int = 0


def find_targets(names: list[str], state_folder: StateFolder, tracking: Any) -> list[Target]:
    """What some names stand for: ids of runs, prefixes of them, or names of studies.

    Raises:
        ValueError: in one line: unknown or ambiguous, a trial of a study, or it is running.
    """
    from studies.search import study_names

    studies = study_names(state_folder.storage)
    found: dict[str, Target] = {}
    for name in names:
        is_id = re.fullmatch(r"[0-9a-f]{1,32}", name) is not None
        matches = tracking.runs_beginning_with(name) if is_id and name not in studies else []
        if len(matches) > 1:
            raise ValueError(f"run {name} is ambiguous: {', '.join(run.run_id for run in matches[:5])}")
        if matches and matches[0].kind == "trial":
            run, short = matches[0], short_id(matches[0].run_id, state_folder)
            raise ValueError(
                f"run {short} is {run.name} of study {run.study}, and Optuna cannot remove a single trial: "
                f"`harness delete {run.study}` deletes the study"
            )
        if matches and matches[0].kind != "study":
            children = tracking.children(matches[0].run_id) if matches[0].kind in PARENTS else []
            found[matches[0].run_id] = _of_run(matches[0], children, state_folder)
            continue
        study = matches[0].study if matches else name
        runs = tracking.runs(None, study, 1_000_000) if study else []
        runs += [run for run in tracking.deleted_runs() if run.study == study and study in studies]
        if study not in studies and not runs:
            raise ValueError(
                f"unknown run or study {name}{did_you_mean(name, studies) or ': `harness runs` lists them'}"
            )
        found[f"study {study}"] = _of_study(study, runs, study in studies, state_folder)
    return list(found.values())


def _of_run(run: RunInfo, children: list[RunInfo], state_folder: StateFolder) -> Target:
    """A run, with those below it."""
    driver = run.tags.get("harness.driver")
    if is_being_written(state_folder.trial_folder(run.run_id) / NAME) or (
        run.status == "RUNNING" and driver is not None and may_live(driver)
    ):
        raise ValueError(f"run {short_id(run.run_id, state_folder)} is being trained: stop it first")
    what = f"run {short_id(run.run_id, state_folder)} ({run.experiment}: {run.name})"
    if children:
        what += f" with its {len(children)} {'run' if len(children) == 1 else 'runs'}"
    return _measured(Target(what, [run, *children]), state_folder)


def _of_study(name: str, runs: list[RunInfo], in_optuna: bool, state_folder: StateFolder) -> Target:
    if Lease(state_folder.lease(name)).is_held:
        raise ValueError(f"study {name} is being run: stop it first")
    trials = sum(run.kind == "trial" for run in runs)
    what = f"study {name}: {trials} {'trial' if trials == 1 else 'trials'}"
    champions = {run.experiment for run in runs if run.kind == "study" and CHAMPION in run.tags}
    what += "".join(f", of which {registered_name(name)}@champion is one" for name in sorted(champions))
    return _measured(Target(what, runs, name if in_optuna else None), state_folder)


def _measured(target: Target, state_folder: StateFolder) -> Target:
    target.folders = [folder for run in target.runs for folder in folders_of(run, state_folder)]
    target.size = sum(size_of(folder) for folder in target.folders)
    return target


def folders_of(run: RunInfo, state_folder: StateFolder) -> list[Path]:
    """The folders of a run: its own, and that of its artifacts if an older version put it elsewhere."""
    own = state_folder.trial_folder(run.run_id)
    artifacts = local_folder(run.artifact_uri)
    places = [own]
    if artifacts is not None and artifacts.parent != own and artifacts.parent.name == run.run_id:
        places.append(artifacts.parent)
    inside = [place for place in places if not place.is_symlink() and contains(state_folder.folder, place.parent)]
    return [place for place in inside if place.is_dir()]


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder, each counted once: a checkpoint may have two names."""
    files: dict[tuple[int, int], int] = {}
    for top, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            files[status.st_dev, status.st_ino] = status.st_size
    return sum(files.values())


def delete(targets: list[Target], state_folder: StateFolder, tracking: Any, said: Callable[[str], None]) -> None:
    """Deletes them, and says of each that it is gone."""
    for target in targets:
        for run in target.runs:
            tracking.delete(run.run_id)
        if target.study is not None:
            from studies.search import delete_study

            delete_study(state_folder.storage, target.study)
            state_folder.lease(target.study).unlink(missing_ok=True)
        for folder in target.folders:
            shutil.rmtree(folder)
        said(f"deleted {target.what}")


def trash(state_folder: StateFolder, tracking: Any) -> list[RunInfo]:
    """Runs in MLflow's trash, whose artifacts are in the state folder.

    Not those of a study that still exists: the doctor restores them.
    """
    from studies.search import study_names

    studies = set(study_names(state_folder.storage))
    return [run for run in tracking.deleted_runs() if run.study not in studies and _is_inside(run, state_folder)]


def _is_inside(run: RunInfo, state_folder: StateFolder) -> bool:
    """Whether MLflow would delete artifacts in the state folder only: a database may have any address."""
    artifacts = local_folder(run.artifact_uri)
    return is_run_id(run.run_id) and artifacts is not None and contains(state_folder.folder, artifacts)


def empty_trash(runs: list[RunInfo], state_folder: StateFolder) -> None:
    """Deletes runs in the trash for good, with their folders, by MLflow's own command.

    Raises:
        WorkFailed: MLflow's command failed.
    """
    for run in runs:
        for folder in folders_of(run, state_folder):
            shutil.rmtree(folder)
    for start in range(0, len(runs), AT_ONCE):
        ids = ",".join(run.run_id for run in runs[start : start + AT_ONCE])
        uri = state_folder.tracking_uri
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri]
        result = subprocess.run([*command, "--run-ids", ids], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode:
            raise WorkFailed(f"mlflow gc failed: {' '.join(result.stderr.split())[-300:]}")
