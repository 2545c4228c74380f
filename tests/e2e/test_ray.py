"""A study on a Ray cluster of two machines, simulated on this one: one dies and another joins; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_helpers import TOY, Workspace, eventually

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
STUDY = ["study", TOY, "--no-test", "--threads", "1", "--pruner", "none"]
SLOW = ["--model.seconds", "0.02", "--trainer.max_epochs", "4"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # other tests run beside it
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def values(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(trial["state"], trial["value"], trial["params"]) for trial in answer["trials"]]


def test_machines_come_and_go_and_the_values_are_those_of_a_local_study(tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "ray").mkdir()
    local = Workspace(tmp_path / "local")
    status, expected, err = local.run(*STUDY, *SLOW, "--trials", "40", "--workers", "2")
    assert status == 0, err
    workspace = Workspace(tmp_path / "ray", RAY_ADDRESS=cluster.address)
    second = cluster.add_node(num_cpus=2)
    command = workspace.start(*STUDY, *SLOW, "--trials", "40", "--executor", "ray")
    command.until(lambda: len(workspace.events("finished")) >= 10, 400)
    cluster.remove_node(second, allow_graceful=False)
    command.until(lambda: len(workspace.events("finished")) >= 20, 400)
    cluster.add_node(num_cpus=2)
    status, answer, err = command.wait()
    assert status == 0, err
    assert values(answer) == values(expected)
    assert len(workspace.statuses()) == 40 and set(workspace.statuses()) == {("COMPLETE", "FINISHED", None)}
    assert "resuming" in err, "trials of the machine that died went on elsewhere"
    curves = [place.curves(found["trials"], "val/loss") for place, found in ((workspace, answer), (local, expected))]
    assert curves[0] == curves[1]
    assert workspace.is_sound()
    assert eventually(workspace.is_empty, 60)
