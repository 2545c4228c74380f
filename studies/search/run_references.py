"""Names for runs that people can remember: `latest`, `best:STUDY` and `STUDY/NUMBER`."""

from __future__ import annotations

import contextlib
import os
import re

from studies.common.state_folder import TRIALS, StateFolder
from studies.search.study import Search
from studies.search.trial_row import TrialRow, best_of

LATEST, BEST = "latest", "best:"


def run_id_of(name: str, state_folder: StateFolder) -> str:
    """The run that `latest` (the newest that was trained here), `best:STUDY` or `STUDY/NUMBER` stands for.

    Any other name is returned as it is.

    Raises:
        ValueError: in one line: there is no such study, trial or run.
    """
    if name == LATEST:
        return _latest(state_folder)
    if name.startswith(BEST):
        study, rows, objectives = _trials(name.removeprefix(BEST), state_folder)
        best = best_of(rows, objectives)
        if best is None or best.run_id is None:
            raise ValueError(f"study {study} has no complete trial, so there is no {name}")
        return best.run_id
    match = re.fullmatch(r"([\w][\w.-]{0,99})/(\d{1,9})", name)
    if match is None:
        return name
    study, rows, _ = _trials(match[1], state_folder)
    row = next((row for row in rows if row.number == int(match[2])), None)
    if row is None or row.run_id is None:
        raise ValueError(f"study {study} has no trial {match[2]} with a run: it has {len(rows)} trials")
    return row.run_id


def _latest(state_folder: StateFolder) -> str:
    newest: dict[str, float] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(state_folder.folder / TRIALS) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                newest[entry.name] = os.stat(os.path.join(entry.path, "spec.json")).st_mtime
    if not newest:
        raise ValueError(f"no runs yet in {state_folder.folder}, so there is no latest one")
    return max(newest, key=lambda name: newest[name])


def _trials(study: str, state_folder: StateFolder) -> tuple[str, list[TrialRow], dict[str, str]]:
    state_folder.check()
    search = Search.existing(state_folder.storage, study)
    return study, search.trials(), search.objectives
