"""Creates executors by name or class path; each is imported on demand."""

from __future__ import annotations

from typing import Any

from studies.common.class_paths import instance_of


def make_executor(named: str | dict[str, Any], workers: int, threads: int = 0, plain: bool = False) -> Any:
    """local | inline | ray, or a user's class; see studies/executors/base.py."""
    if isinstance(named, dict):
        return instance_of(named, workers=workers, threads=threads, plain=plain)
    if named == "inline":
        from studies.executors.inline import InlineExecutor

        return InlineExecutor(workers, threads)
    if named == "ray":
        from studies.executors.ray_cluster import RayExecutor

        return RayExecutor(workers, threads, plain)
    from studies.executors.local import LocalExecutor

    return LocalExecutor(workers, threads, plain)
