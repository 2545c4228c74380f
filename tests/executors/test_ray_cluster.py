"""Arguments of the Ray executor; tests/e2e/test_ray.py has a cluster."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from studies.cli.cluster_options import RAY
from studies.executors.by_name import make_executor
from studies.executors.ray_cluster import RayExecutor


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cpus": 0}, "cpus-per-trial must be above 0, not 0"),
        ({"cpus": float("nan")}, "cpus-per-trial must be above 0, not nan"),
        ({"gpus": -1}, "gpus-per-trial must be at least 0, not -1"),
        ({"gpus": 1.5}, "gpus-per-trial above 1 must be a whole number, not 1.5"),
    ],
)
def test_arguments_out_of_range_are_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RayExecutor(**arguments)


def test_a_trial_has_a_thread_for_each_of_its_cpus() -> None:
    pytest.importorskip("ray")
    assert [RayExecutor(cpus=cpus).threads for cpus in (0.5, 1, 4)] == [1, 1, 4]
    assert RayExecutor(cpus=4, threads=2).threads == 2
    named = {"class_path": RAY, "init_args": {"cpus": 3}}
    assert isinstance(made := make_executor(named, 2), RayExecutor) and (made.threads, made.free) == (3, 2)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'--executor ray needs the package ray: pip install "studies-harness\[ray\]"'):
        make_executor("ray", 0)


def test_ray_is_imported_for_its_executor_alone() -> None:
    modules = "studies.cli.main, studies.driver.commands, studies.executors.local, studies.trial.run"
    code = f"import sys, {modules}; assert 'ray' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
