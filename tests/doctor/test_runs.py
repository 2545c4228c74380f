from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls

from studies.common.state_folder import StateFolder
from studies.doctor import runs
from studies.search import TrialRow
from studies.tracking.run_info import RunInfo

TAGS = {"harness.kind": "trial", "harness.study": "s", "harness.trial": "0"}


def run(run_id: str, start_time: float) -> RunInfo:
    return RunInfo(run_id, "toy", "s", "trial 0", "trial", "RUNNING", start_time, tags=TAGS)


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_runs_of_an_unbound_trial_the_newest_is_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    """The one that the next start of the study finds."""
    found: Any = SimpleNamespace(trials=lambda: [TrialRow(0, "RUNNING", None)])
    monkeypatch.setattr(runs, "study_names", lambda storage: ["s"])
    monkeypatch.setattr(runs, "Search", SimpleNamespace(existing=lambda storage, name: found))
    tracking: Any = Calls(runs=[run("older", 1.0), run("newest", 3.0), run("old", 2.0)][::order], deleted_runs=[])
    examination = runs.Examination(StateFolder(tmp_path, "", ""), tracking)
    assert [row.run_id for row in examination.rows["s"]] == ["newest"]
