"""Publishing a study's best trial, with fakes for MLflow and for the trained module's test."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy

from studies.inference import register_worker
from studies.inference.register_worker import TESTED, publish
from studies.protocol.trial_spec import TrialSpec


class Registry:
    """A fake Tracking with model registry that records calls."""

    def __init__(self) -> None:
        self.models = self
        self.tags: dict[str, str] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self.versions: list[dict[str, str]] = []
        self.champion_version: int | None = None

    def tag(self, run_id: str, key: str) -> str | None:
        return self.tags.get(f"{run_id} {key}")

    def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self.tags |= {f"{run_id} {key}": value for key, value in tags.items()}

    def run(self, run_id: str) -> Any:
        return SimpleNamespace(metrics=self.metrics.setdefault(run_id, {}))

    def log_metrics(self, run_id: str, values: dict[str, float], step: int) -> None:
        self.metrics[run_id] |= values

    def log_files(self, run_id: str, path: Path) -> None: ...

    def champion(self, name: str) -> dict[str, str] | None:
        return None if self.champion_version is None else self.versions[self.champion_version - 1]

    def version_of(self, name: str, tags: dict[str, str]) -> int | None:
        return self.versions.index(tags) + 1 if tags in self.versions else None

    def publish_model(self, *arguments: Any) -> int:
        self.versions.append(arguments[-1])
        return len(self.versions)

    def set_champion(self, name: str, version: int) -> None:
        self.champion_version = version


class Trainer:
    """A Trainer whose tests return given results."""

    def __init__(self) -> None:
        self.tests = 0

    def test(self, module: Any, datamodule: Any, verbose: bool) -> list[dict[str, float]]:
        self.tests += 1
        return [{"test/loss": float(self.tests)}]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr(register_worker, "Tracking", lambda uri, artifacts: registry)
    return registry


@pytest.fixture
def tester(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    tester = Trainer()
    prepared = toy.Toy(num_features=3), toy.ToyData(), tester
    monkeypatch.setattr(register_worker, "prepare_trained", lambda spec, folder: prepared)
    return tester


def best_of(folder: Path, study: str, value: float, **fields: Any) -> dict[str, Any]:
    """The payload of a study's best trial."""
    spec = TrialSpec(f"trial_of_{study}", {}, 0, str(folder / study)).save()
    payload = {"spec": str(spec), "tracking_uri": "", "parent": study, "model_name": "toy", "study": study}
    payload |= {
        "value": value,
        "metric": "val/accuracy",
        "direction": "maximize",
        "requirements": [],
        "search_path": [],
    }
    return payload | fields


@pytest.mark.usefixtures("tester")
@pytest.mark.parametrize(("direction", "better", "worse"), [("maximize", 0.9, 0.5), ("minimize", 0.5, 0.9)])
def test_a_better_champion_of_another_study_is_kept(
    tmp_path: Path, registry: Registry, direction: str, better: float, worse: float
) -> None:
    first = publish(best_of(tmp_path, "first", better, direction=direction))
    assert "models:/toy@champion" in first["note"] and registry.champion_version == 1
    second = publish(best_of(tmp_path, "second", worse, direction=direction))
    assert "another study's champion is better and stays" in second["note"] and registry.champion_version == 1


@pytest.mark.usefixtures("tester")
@pytest.mark.parametrize(("direction", "better", "worse"), [("maximize", 0.9, 0.5), ("minimize", 0.5, 0.9)])
def test_a_better_study_becomes_champion(
    tmp_path: Path, registry: Registry, direction: str, better: float, worse: float
) -> None:
    publish(best_of(tmp_path, "first", worse, direction=direction))
    second = publish(best_of(tmp_path, "second", better, direction=direction))
    assert "version 2 is models:/toy@champion" in second["note"] and registry.champion_version == 2


@pytest.mark.usefixtures("tester")
def test_values_of_two_metrics_are_not_compared_and_a_study_may_replace_its_own(
    tmp_path: Path, registry: Registry
) -> None:
    publish(best_of(tmp_path, "first", 0.9))
    publish(best_of(tmp_path, "second", 0.5, metric="val/f1"))
    assert registry.champion_version == 2
    publish(best_of(tmp_path, "second", 0.4, metric="val/f1"))
    assert registry.champion_version == 3


def test_a_champion_is_tested_once_and_again_once_it_was_extended(
    tmp_path: Path, registry: Registry, tester: Trainer
) -> None:
    assert publish(best_of(tmp_path, "first", 0.5))["test"] == {"test/loss": 1.0}
    again = publish(best_of(tmp_path, "first", 0.5))
    assert again == {"test": {"test/loss": 1.0}, "note": ""} and tester.tests == 1
    extended = publish(best_of(tmp_path, "first", 0.75))
    assert extended["test"] == {"test/loss": 2.0} and "version 2 is models:/toy@champion" in extended["note"]
    assert registry.tag("first", TESTED) == "trial_of_first 0.75"
