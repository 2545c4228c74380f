from types import SimpleNamespace
from typing import Any

from studies.tracking.model_registry import ModelRegistry


def test_the_newest_of_several_versions_with_the_same_tags_is_used() -> None:
    versions = {"2": "r", "10": "r", "9": "r", "11": "other"}  # version -> run; MLflow returns them in any order
    listed = [SimpleNamespace(version=number, tags={"run": run, "more": "x"}) for number, run in versions.items()]
    client: Any = SimpleNamespace(search_model_versions=lambda query: listed)
    registry = ModelRegistry(client, "sqlite://")
    assert registry.version_of("mine", {"run": "r"}) == 10
    assert registry.version_of("mine", {"run": "nobody's"}) is None
