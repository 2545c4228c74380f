"""Names for completion: experiments, studies, runs and parameters. Imports neither Optuna, MLflow nor torch.

A name that does not look like one is left out: a state folder may be somebody else's, and names go to a shell.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

from studies.common.regular_files import read_text
from studies.common.short_ids import run_ids, short_ids
from studies.common.sqlite_files import sqlite_path
from studies.common.state_folder import StateFolder
from studies.common.trust import is_own
from studies.config.experiment import load, shipped
from studies.config.parameters import flat_parameters
from studies.config.source_parameters import parameters_in_source

LIMITS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")  # what `harness resume` may change
NEWEST = 50  # runs that are suggested
NAME = re.compile(r"\w[\w./+-]{0,99}")
SHORT = {"optimizer": "torch.optim.", "lr_scheduler": "torch.optim.lr_scheduler."}  # where short names are
TRAINER = "pytorch_lightning.trainer.trainer.Trainer"
GIVEN = ("optimizer.params", "lr_scheduler.optimizer")  # set by Lightning
LARGEST = 1_000_000  # bytes of a specification
WAIT_SECONDS = 0.3  # for a database that is being written


def experiments() -> list[str]:
    """The shipped experiments, and those in MLflow."""
    return sorted({*shipped(), *_column(StateFolder.find().tracking_uri, "experiments", "name")} - {"Default"})


def studies(storage: str | None = None) -> list[str]:
    """Names of studies in Optuna's database, if that is a file."""
    return sorted(_column(StateFolder.find(storage).storage, "studies", "study_name"))


def runs() -> dict[str, str]:
    """Names of runs and what they are: latest, best:STUDY, and short ids of the newest runs."""
    state_folder = StateFolder.find()
    found = {"latest": "the newest run", **{f"best:{name}": f"best trial of {name}" for name in studies()}}
    newest = _newest_runs(state_folder)[:NEWEST]
    short = short_ids(newest, run_ids(state_folder))
    return found | {short[run_id]: _described(state_folder.trial_folder(run_id)) for run_id in newest}


def _newest_runs(state_folder: StateFolder) -> list[str]:
    """The ids of all runs that were trained, newest first."""
    times: dict[str, float] = {}
    for run_id in run_ids(state_folder):
        with contextlib.suppress(OSError):
            times[run_id] = (state_folder.trial_folder(run_id) / "spec.json").stat().st_mtime
    return sorted(times, key=lambda run_id: times[run_id], reverse=True)


def parameters(words: list[str]) -> list[str]:
    """The parameters of the experiment that a command line names, such as model.learning_rate.

    Args:
        words: of the line, from the command on: ["train", "mnist_mlp", ...].
    """
    if words[:1] == ["resume"]:
        return list(LIMITS)
    overlays = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "--config"]
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError, RecursionError, StopIteration):
        if "--from" in words[:-1]:
            return _of_sections(*_stored(words[words.index("--from") + 1]))
        names = [word for word in words[1:] if word in shipped() or word.endswith((".yaml", ".yml"))]
        names = [name for name in names if name not in overlays]
        if names:
            experiment = load(names[0], overlays)
            return _of_sections(experiment.sections, experiment.search_path)
    return []


def _of_sections(sections: dict[str, object], folders: list[str]) -> list[str]:
    """Parameters that are written in an experiment's file, and those of its classes and of Lightning's Trainer."""
    names = [name for name in flat_parameters(sections) if "." in name]
    for section in ("model", "data", "optimizer", "lr_scheduler"):
        spec = sections.get(section)
        if isinstance(spec, dict):
            class_path = str(spec["class_path"])
            class_path = class_path if "." in class_path else f"{SHORT.get(section, '')}{class_path}"
            names += [f"{section}.{name}" for name in parameters_in_source(class_path, folders)]
    names += [f"trainer.{name}" for name in parameters_in_source(TRAINER, folders)]
    return [name for name in dict.fromkeys(names) if NAME.fullmatch(name) and name not in GIVEN]


def _stored(name: str) -> tuple[dict[str, object], list[str]]:
    """The sections of a run, and the folders of its classes if this user has made the state folder.

    All trials of a study have the same parameters, so any of them stands for best:STUDY and STUDY/NUMBER.
    """
    state_folder = StateFolder.find()
    of_study = re.fullmatch(r"best:(.+)|(.+)/\d+", name)
    if name == "latest" or of_study:
        study = of_study and (of_study[1] or of_study[2])
        specs = (_spec(state_folder.trial_folder(run_id)) for run_id in _newest_runs(state_folder))
        spec = next(spec for spec in specs if study is None or spec.get("study") == study)
    else:
        spec = _spec(state_folder.run_folder(name))
    folders = spec["search_path"] if is_own(state_folder.folder) else []
    return {**spec["experiment"]}, [str(folder) for folder in folders]


def _spec(folder: Path) -> dict[str, Any]:
    spec = json.loads(read_text(folder / "spec.json", LARGEST))
    return spec if isinstance(spec, dict) else {}


def _described(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        spec = _spec(folder)
        of = f"trial {spec.get('number')} of {spec.get('study')}" if spec.get("study") else f"seed {spec.get('seed')}"
        return re.sub(r"[^\w ./+-]", "", f"{spec.get('name')} {of}")[:60]
    return ""


def _column(url: str, table: str, column: str) -> set[str]:
    """The names in a column of a SQLite database, which is only read; none of other databases."""
    path = sqlite_path(url)
    found: set[str] = set()
    with contextlib.suppress(sqlite3.Error, ValueError):
        if path is not None and path.is_file():
            address = f"{path.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS)) as connection:
                rows = connection.execute(f"SELECT {column} FROM {table}")
                found = {name for (name,) in rows if isinstance(name, str) and NAME.fullmatch(name)}
    return found
