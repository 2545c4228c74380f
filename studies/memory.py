"""Says of a trial that ran out of memory how much there was, how much it used, and with which batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil


def kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is Python's, PyTorch's on the CPU or CUDA's way of saying so."""
    text = str(error)
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
    batch_size = (experiment.get("data", {}).get("init_args") or {}).get("batch_size")
    if batch_size is not None:
        parts.append(f"data.batch_size={batch_size}: a smaller one needs less")
    return "out of memory: " + ", ".join(parts)


def _limit() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's (a container's) share."""
    total = psutil.virtual_memory().total
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return total
    root = Path("/sys/fs/cgroup")
    files = [root / "memory.max", root / "memory" / "memory.limit_in_bytes"]  # as a container sees its own
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(root / path.lstrip("/") / "memory.max")
        elif "memory" in controllers.split(","):
            files.append(root / "memory" / path.lstrip("/") / "memory.limit_in_bytes")
    texts = [file.read_text().strip() for file in files if file.exists()]
    return min([total, *(int(text) for text in texts if text.isdigit())])
