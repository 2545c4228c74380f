"""latest, best:STUDY and STUDY/NUMBER."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studies.common.state_folder import StateFolder
from studies.config.search_space import parse_space
from studies.search import Search
from studies.search.run_references import run_id_of

SPACE = {"model.learning_rate": [0.1, 0.2, 0.3]}


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """A study of three trials, of which the second is best and the third has no run, and the runs of the others."""
    found = StateFolder(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/optuna.db")
    definition = {
        "experiment": {"name": "toy"},
        "space": SPACE,
        "metric": "val/loss",
        "direction": "minimize",
        "seed": 0,
    }
    search = Search(found.storage, "s", definition, parse_space(SPACE), "random", "none", 1)
    for value, run_id in ((0.5, "aa"), (0.25, "bb"), (None, None)):
        number = search.ask().number
        if run_id is not None:
            search.bind(number, run_id)
            search.tell(number, "COMPLETE", value)
    search.write()
    return found


def made(state: StateFolder, run_id: str, age: float) -> None:
    folder = state.trial_folder(run_id)
    folder.mkdir(parents=True)
    (folder / "spec.json").touch()
    os.utime(folder / "spec.json", (1e9 - age, 1e9 - age))


def test_trials_of_a_study(state: StateFolder) -> None:
    assert run_id_of("best:s", state) == "bb"
    assert run_id_of("s/0", state) == "aa"
    with pytest.raises(ValueError, match="study s has no trial 2 with a run: it has 3 trials"):
        run_id_of("s/2", state)
    with pytest.raises(ValueError, match="study s has no trial 9 with a run"):
        run_id_of("s/9", state)
    with pytest.raises(ValueError, match=r"unknown study t.*allowed: s"):
        run_id_of("best:t", state)


def test_a_study_without_complete_trials_has_no_best(state: StateFolder) -> None:
    definition = Search.existing(state.storage, "s").definition
    Search(state.storage, "empty", definition, parse_space(SPACE), "random", "none", None)
    with pytest.raises(ValueError, match="study empty has no complete trial, so there is no best:empty"):
        run_id_of("best:empty", state)


def test_the_latest_run_is_the_last_one_that_was_started(state: StateFolder) -> None:
    with pytest.raises(ValueError, match="so there is no latest one"):
        run_id_of("latest", state)
    made(state, "old", 100.0)
    made(state, "new", 10.0)
    made(state, "older", 1000.0)
    (state.folder / "trials" / "of-a-study").mkdir()
    assert run_id_of("latest", state) == "new"


@pytest.mark.parametrize("name", ["0123abc", "models:/a@champion", "some/file.png", "../s/0", "a b/1", "s/-1", ""])
def test_other_names_are_left_alone(state: StateFolder, name: str) -> None:
    assert run_id_of(name, state) == name
