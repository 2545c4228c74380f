"""Keeps memory that a training step frees for the next step, and gives it back where a trial has ended. Standard
library only.

glibc's malloc gives large blocks back to the kernel as soon as they are free, and the next step's tensors, of the same
sizes, are made of new pages, each of which the kernel clears first: a twentieth of the time of mnist_cnn's fit, a
quarter of a step of a network twice as wide.
"""

from __future__ import annotations

import ctypes
import os

# Of malloc.h. What is larger than the threshold of mmap has pages of its own, which are given back when it is freed;
# and where the end of the heap is free, it is given back above the threshold of trim.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE = 2**30  # bytes
ACCEPTED = (LARGE, 2**25)  # the larger one by glibc 2.35 and later only
KEPT = 2**28  # bytes of freed memory that may stay with a process between its trials


def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory; returns whether it does.

    It does not where the user has settings of his own (MALLOC_..., GLIBC_TUNABLES) or the C library has no mallopt.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Only where it takes a threshold of mmap: to set the other one alone would fix that at 128 KiB.
    if not any(mallopt(M_MMAP_THRESHOLD, size) for size in ACCEPTED):
        return False
    # In one heap: those of other threads are given back as soon as they are empty, whatever the thresholds.
    return bool(mallopt(M_ARENA_MAX, 1)) and bool(mallopt(M_TRIM_THRESHOLD, LARGE))


def give_back_freed_memory() -> bool:
    """Returns freed memory to the kernel if it is much, so that a small trial does not sit in a large one's.

    Returns:
        Whether some was returned.
    """
    try:
        library = ctypes.CDLL(None)
        mallinfo2, malloc_trim = library.mallinfo2, library.malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    mallinfo2.restype = _Usage
    return mallinfo2().free > KEPT and bool(malloc_trim(0))


class _Usage(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(f"other{place}", ctypes.c_size_t) for place in range(8)]
    _fields_ += [("free", ctypes.c_size_t), ("at_the_end", ctypes.c_size_t)]
