"""`harness demo` while others hold connections, send slowly and upload image bombs.

benchmarks/demo_under_attack.py measures how long a visitor waits.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from process_helpers import Workspace

pytestmark = pytest.mark.slow
CONNECTIONS, ANSWERS, MEGABYTES = 1000, 30, 512


@pytest.fixture(scope="module")
def attack() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "demo_under_attack.py"
    spec = importlib.util.spec_from_file_location("demo_under_attack", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_visitor_gets_the_same_answer_and_memory_is_bounded(attack: ModuleType, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("train", "mnist_mlp", *attack.SMALL)
    assert status == 0, err
    with attack.served(workspace.home, answer["run_id"]) as (server, host, port):
        expected = attack.ask((host, port), attack.drawing())
        assert "answer" in expected, expected
        before = attack.megabytes(server.pid, "VmRSS")
        attackers = attack.Attackers(host, port)
        attackers.start_all(CONNECTIONS)
        try:
            for _ in range(ANSWERS):
                assert attack.ask((host, port), attack.drawing()) == expected
        finally:
            attackers.stop()
        assert attack.megabytes(server.pid, "VmHWM") - before < MEGABYTES
        assert all(attackers.counts.get(name) for name in ("half an upload", "false size", "bomb with alpha"))
