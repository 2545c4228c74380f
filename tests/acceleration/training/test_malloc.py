"""Memory freed by a step is reused by the next, as seen in the number of new pages."""

import os
import subprocess
import sys
from typing import Any

import pytest

from studies.acceleration.training import malloc as allocator

LOOP = """
import resource, torch
from studies.acceleration.training.malloc import keep_freed_memory
if {keep}: assert keep_freed_memory()
def step():
    first, second = torch.ones(9_000_000), torch.ones(9_500_000)  # of 36 and 38 MB
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12): step()  # blocks of one size grow into each other first
before = pages()
for _ in range(5): step()
print(pages() - before)
"""
OTHERS = ("MALLOC_", "GLIBC_TUNABLES")


def new_pages(keep: bool, on_a_thread: bool = False, **environment: str) -> int:
    """Number of new pages in 5 steps."""
    code = LOOP.format(keep=keep)
    if on_a_thread:
        code = f"import threading as t\nw = t.Thread(target=exec, args=({code!r}, {{}}))\nw.start()\nw.join()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return int(result.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_step_reuses_the_pages_of_the_previous_one() -> None:
    usual, kept = new_pages(False), new_pages(True)
    assert usual > 50_000, "5 steps of two tensors of 9,000 pages each"
    assert kept < usual / 50
    assert new_pages(True, on_a_thread=True) < usual / 50


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_users_settings_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("asked"))
    assert not allocator.keep_freed_memory()


class OldLibrary:
    """A fake glibc that rejects large thresholds, and records its calls."""

    def __init__(self, most: int) -> None:
        self.most, self.told = most, {}  # type: ignore[var-annotated]

    def mallopt(self, option: int, value: int) -> int:
        taken = option != allocator.M_MMAP_THRESHOLD or value <= self.most
        if taken:
            self.told[option] = value
        return int(taken)


@pytest.mark.parametrize(("most", "kept"), [(2**25, True), (0, False)])
def test_a_library_that_rejects_the_settings(most: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OTHERS)]:
        monkeypatch.delenv(name)
    library: Any = OldLibrary(most)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    assert allocator.keep_freed_memory() is kept
    assert library.told.get(allocator.M_MMAP_THRESHOLD) == (2**25 if kept else None)
    assert (allocator.M_TRIM_THRESHOLD in library.told) is kept


def test_no_such_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()


FREED = """
import psutil, torch
from studies.acceleration.training.malloc import give_back_freed_memory, keep_freed_memory
assert keep_freed_memory()
def megabytes(): return psutil.Process().memory_info().rss / 2**20
blocks = [torch.ones({megabytes} * 2**18 // 8) for _ in range(8)]
most = megabytes()
blocks.clear()
print(give_back_freed_memory(), most - megabytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
@pytest.mark.parametrize(("megabytes", "given"), [(600, True), (60, False)])
def test_memory_freed_by_a_large_trial_is_released(megabytes: int, given: bool) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    command = [sys.executable, "-c", FREED.format(megabytes=megabytes)]
    result = subprocess.run(command, env=clean, check=True, capture_output=True, text=True)
    said, fell = result.stdout.split()
    assert said == str(given)
    assert float(fell) > 0.9 * megabytes if given else float(fell) < 0.1 * megabytes
