"""Says of a trial that ran out of memory how much there was, how much it used, and with which batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from studies.common.text import error_text


def kills() -> int:
    """How many processes of this process's own control group the kernel has killed for want of memory.

    Where there are no control groups, those of the whole machine; 0 where the kernel does not say.
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
    """Whether an error is Python's, PyTorch's on the CPU or CUDA's way of saying so."""
    text = error_text(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "CUDA out of memory" in text
    )


def explain(experiment: dict[str, Any], used: float | None) -> str:
    """What to know of a trial that ran out of memory.

    Args:
        experiment: the trial's, for its batch size.
        used: megabytes the process used when it was last looked at, or None.
    """
    parts = [] if used is None else [f"its process used {used:.0f} MB"]
    parts.append(f"{_limit() / 1e6:.0f} MB are there")
    batch_size = ((experiment.get("data") or {}).get("init_args") or {}).get("batch_size")
    if batch_size is not None:
        parts.append(f"data.batch_size={batch_size}: a smaller one needs less")
    return "out of memory: " + ", ".join(parts)


def _limit() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's (a container's) share."""
    files = _group_files("memory.max", "memory.limit_in_bytes")
    texts = [file.read_text().strip() for file in files if file.exists()]
    return min([psutil.virtual_memory().total, *(int(text) for text in texts if text.isdigit())])


def _group_files(new: str, old: str) -> list[Path]:
    """Where a file of this process's memory control group may lie, the likeliest first.

    Args:
        new, old: its name in version 2 and version 1 of control groups.
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
    return [*files, root / new, root / "memory" / old]  # the last two are how a container sees its own
