from types import SimpleNamespace
from typing import Any

import pytest
from fakes import Screen

from studies.driver.session import Options
from studies.driver.study import Study, StudySource
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.trial_log import Ending


class Told:
    """A search that is empty and hears how trials end."""

    points = None

    def __init__(self) -> None:
        self.told: list[tuple[int, str, float | None]] = []

    def trials(self) -> list[Any]:
        return []

    def tell(self, number: int, state: str, value: float | None) -> None:
        self.told.append((number, state, value))


def source(max_failures: int) -> StudySource:
    session = SimpleNamespace(options=Options([], trials=10, max_failures=max_failures), display=Screen())
    plan = SimpleNamespace(direction="minimize")
    study: Any = SimpleNamespace(session=session, plan=plan, search=Told(), experiment=None)
    return StudySource(study)


def end(source: StudySource, *states: str) -> None:
    for state in states:
        source.ended(TrialSpec("r", {}, 0, "folder"), Ending(state, None, {}, 1.0))


def test_only_failures_in_a_row_end_a_study() -> None:
    of_study = source(max_failures=2)
    for state in ("COMPLETE", "PRUNED"):
        end(of_study, "FAIL", state, "FAIL", state)
        assert not of_study.gave_up
    assert of_study.session.display.said == []
    end(of_study, "FAIL", "FAIL")
    assert of_study.gave_up and of_study.next() is None
    assert of_study.session.display.said == ["2 trials in a row have failed: the study ends (--max-failures)"]


def test_an_interrupted_trial_is_neither_told_nor_a_break_in_a_row_of_failures() -> None:
    of_study = source(max_failures=2)
    end(of_study, "FAIL", "INTERRUPTED", "INTERRUPTED")
    assert not of_study.gave_up
    end(of_study, "FAIL")
    assert of_study.gave_up
    assert [state for _, state, _ in of_study.search.told] == ["FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("trainer", "reports"),
    [
        ({"max_epochs": 5}, 5),
        ({"max_epochs": 5, "val_check_interval": 0.25}, 20),
        ({"max_epochs": 3, "val_check_interval": 1.0}, 3),
        ({"max_epochs": -1}, None),
        ({"max_steps": 100}, None),
    ],
)
def test_how_often_a_trial_validates(trainer: dict[str, Any], reports: int | None) -> None:
    """It is what Hyperband takes for the length of a trial."""
    study: Any = SimpleNamespace(experiment=SimpleNamespace(trainer=trainer))
    assert Study._reports(study) == reports
