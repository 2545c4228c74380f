from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Calls, Screen

from studies.driver.conclusion import conclude
from studies.driver.session import Options
from studies.search import TrialRow


def of_trials(folder: Path, rows: list[TrialRow]) -> Any:
    """A study that has run these trials, none of which shall be tested."""
    return SimpleNamespace(
        session=SimpleNamespace(tracking=Calls(), display=Screen(), options=Options([], test=False)),
        plan=SimpleNamespace(metric="val/loss", direction="minimize", space={}),
        search=SimpleNamespace(trials=lambda: rows, importances=dict),
        name="s",
        experiment_id="1",
        parent="parent",
        parent_folder=folder,
    )


@pytest.mark.parametrize(
    ("signal", "timed_out", "status"),
    [
        (None, False, ("FINISHED", None)),
        (None, True, ("KILLED", "interrupted")),
        (2, False, ("KILLED", "interrupted")),
    ],
)
def test_a_study_that_was_stopped_is_not_finished(
    tmp_path: Path, signal: int | None, timed_out: bool, status: tuple[str, str | None]
) -> None:
    study, loop = of_trials(tmp_path, []), SimpleNamespace(signal=signal, timed_out=timed_out)
    conclude(study, loop)  # type: ignore[arg-type]
    ends = [call for call in study.session.tracking.made if call[0] == "end"]
    assert ends == [("end", "parent", *status)]
