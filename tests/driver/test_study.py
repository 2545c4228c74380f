from types import SimpleNamespace
from typing import Any

import pytest

from studies.driver.study import Study


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
