"""Shared fixtures: an empty state folder for each test, and one warm server for the whole session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # machines of tests are shared
hypothesis.settings.load_profile("untimed")
TOY = Path(__file__).parent / "toy" / "toy.yaml"

os.environ.pop("MLFLOW_TRACKING_URI", None)
_STATE = tempfile.TemporaryDirectory(prefix="harness-tests-")  # the list of own state folders is not the user's
os.environ["XDG_STATE_HOME"] = _STATE.name

from studies.common.trust import make_own  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_left_in_the_environment() -> Iterator[None]:
    """Isolates the environment: pytest-xdist decides which tests share a process."""
    before = dict(os.environ)
    yield
    ours = {name for name in {*before, *os.environ} if name.startswith(("HARNESS_", "OMP_"))}
    changed = {name: os.environ.get(name) for name in ours if os.environ.get(name) != before.get(name)}
    for name in changed:
        os.environ.pop(name) if name not in before else os.environ.update({name: before[name]})
    assert not changed, f"left in the environment: {changed}"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; creating one takes seconds, copying is instant."""
    from studies.tracking.client import Tracking

    path = tmp_path_factory.mktemp("pristine") / "mlflow.db"
    Tracking(f"sqlite:///{path}", path.parent)
    return path


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; returns the path of its future state folder."""
    home = tmp_path / "mlruns"
    monkeypatch.setenv("HARNESS_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def home(empty_home: Path, pristine: Path) -> Path:
    """A state folder with an empty MLflow database."""
    make_own(empty_home)
    shutil.copy(pristine, empty_home / "mlflow.db")
    return empty_home


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    """The toy experiment, as a file outside the repository, next to its module."""
    folder = tmp_path / "mine"
    shutil.copytree(TOY.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    yield folder / "toy.yaml"


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Any]:
    """A run of an untrained GRUSeq2Seq, aa01, in `tmp_path`; see tiny_models."""
    import tiny_models

    return tiny_models.words(tmp_path)


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """A run of an untrained MLP of two features, bb02."""
    import tiny_models

    return tiny_models.table(tmp_path)


@pytest.fixture
def client(home: Path) -> Any:
    """An MlflowClient for the state folder."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
