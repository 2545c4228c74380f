import os

import pytest

from studies.common.credentials import tracking_uri


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "before")  # so that it is restored
        monkeypatch.delenv(name)


def test_user_and_password_move_to_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://a%40b:p%2Fw@host:5000/path")
    for _ in range(2):
        assert tracking_uri() == "https://host:5000/path" == os.environ["MLFLOW_TRACKING_URI"]
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "a@b"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p/w"


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////tmp/a@b.db", "postgresql://u:p@h/d"])
def test_other_addresses_stay(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri() == uri and "MLFLOW_TRACKING_USERNAME" not in os.environ


def test_no_address() -> None:
    assert tracking_uri() is None
