"""Explains an out-of-memory failure of a trial: limit, usage and batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from studies.common.text import error_text


def kills() -> int:
    """Number of OOM kills in this process's control group.

    Without control groups, that of the whole machine; 0 if the kernel does not report it.
    """
    files = _group_files("memory.events.local", "memory.oom_control")
    for file in [*files, Path("/proc/vmstat")]:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is an out-of-memory error of Python, PyTorch on the CPU, or CUDA."""
    text = error_text(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "CUDA out of memory" in text
    )


def explain(experiment: dict[str, Any], used: float | None) -> str:
    """One-line out-of-memory message: limit, usage and batch size.

    Args:
        experiment: the trial's sections, for the batch size.
        used: the process's last known memory usage in MB, or None.
    """
    parts = [] if used is None else [f"its process used {used:.0f} MB"]
    parts.append(f"{_limit() / 1e6:.0f} MB are available")
    batch_size = ((experiment.get("data") or {}).get("init_args") or {}).get("batch_size")
    if batch_size is not None:
        parts.append(f"data.batch_size={batch_size}: a smaller one needs less")
    return "out of memory: " + ", ".join(parts)


def _limit() -> int:
    """Bytes of memory available to this process: the machine's, or the limit of its control group (container)."""
    files = _group_files("memory.max", "memory.limit_in_bytes")
    texts = [file.read_text().strip() for file in files if file.exists()]
    return min([psutil.virtual_memory().total, *(int(text) for text in texts if text.isdigit())])


def _group_files(new: str, old: str) -> list[Path]:
    """Candidate paths of a file of this process's memory control group, likeliest first.

    Args:
        new, old: its name in cgroup v2 and v1.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    root = Path("/sys/fs/cgroup")
    files = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(root / path.lstrip("/") / new)
        elif "memory" in controllers.split(","):
            files.append(root / "memory" / path.lstrip("/") / old)
    return [*files, root / new, root / "memory" / old]  # the last two are a container's own view
