"""Plants faults in the code that trials and studies rest on, and counts those that the fast tests let live.

    make mutants                                       100 faults, two at a time
    .venv/bin/python tests/mutants.py --number 20 --seed 3 --only driver/loop.py

cosmic-ray draws the faults: a comparison turned round, a number off by one, a condition negated, a loop that runs no
more than zero times. Places are drawn first, and then one of the faults that fit there, because a single `+` has twelve
of them and a `return not x` has one. Each is planted in a copy of the working tree, where the tests that execute its
line run first, and then all tests of its package.

A fault at which the tests take longer than SECONDS is counted by itself: on a busy machine that may be no find.
"""

from __future__ import annotations

import argparse
import difflib
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue
from typing import NamedTuple
from xml.etree import ElementTree

import coverage
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600  # of tests without an end; on a quiet machine a package's take two minutes
HANGS = "the tests hang"
# The tests to run for a package, the quickest first: its own, and few others. All fast tests would find more.
TESTS = {
    "driver": ["driver", "cli"],
    "trial": [*(f"trial/test_{name}.py" for name in ("callbacks", "checkpointing", "trainer", "run")), "trial"],
    "tracking": ["tracking/test_trial_log.py", "driver", "doctor/test_runs.py", "tracking"],
    "doctor": [*(f"doctor/test_{name}.py" for name in ("runs", "files", "databases", "examination")), "doctor"],
}
# What tests import is imported once, in a process that is forked for each fault.
IMPORTED = [
    "pytest",
    "hypothesis",
    "torch",
    "pytorch_lightning",
    "mlflow",
    "optuna",
    "matplotlib.pyplot",
    "torchmetrics",
]
# Nothing, changes of annotations (`int | None`), which nobody evaluates, and `is` for `==`, which is the same for small
# numbers and for names.
NO_FAULT = re.compile("NoOp|BitOr|(Eq|Lt|LtE|Gt|GtE)_(Is|IsNot)$")
FILES = [
    *(f"driver/{name}.py" for name in ("loop", "study", "conclusion", "extension")),
    *(f"trial/{name}.py" for name in ("run", "trainer", "callbacks", "checkpointing", "checkpoint_contents")),
    "tracking/trial_log.py",
    *(f"doctor/{name}.py" for name in ("databases", "examination", "files", "finding", "runs")),
]


class Fault(NamedTuple):
    """One change of one file: an operator of cosmic-ray, applied to the occurrence-th place that it fits."""

    file: str
    operator: str
    occurrence: int
    line: int

    def in_text(self, text: str) -> str:
        """The file's text with the fault in it."""
        changed = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        assert changed is not None
        return changed


def places(file: str) -> Iterator[list[Fault]]:
    """For each place of a file that can be changed, the faults that fit there."""
    tree = get_ast((ROOT / "studies" / file).read_text())
    at = defaultdict(list)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or NO_FAULT.search(name):
            continue
        found = [
            (type(node).__name__, *where) for node in ast_nodes(tree) for where in operator().mutation_positions(node)
        ]
        for occurrence, where in enumerate(found):
            at[where].append(Fault(file, name, occurrence, where[1][0]))
    yield from at.values()


def draw(files: list[str], number: int, seed: int) -> list[Fault]:
    """Faults at different places, each as likely as any other."""
    everywhere = [faults for file in files for faults in places(file)]
    rng = random.Random(seed)
    return [rng.choice(faults) for faults in rng.sample(everywhere, min(number, len(everywhere)))]


def copy_of_the_tree(folder: Path) -> Path:
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def tested(tree: str, tests: list[str], output: str, coverage_of: str | None = None) -> None:
    """Runs tests up to the first that fails; the process's exit status is pytest's.

    Args:
        coverage_of: where to put which test executes which line, and how long each takes: NAME.coverage and NAME.xml.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets commands in the background ignore it
    os.chdir(tree)
    sys.path.insert(0, tree)
    os.environ |= {"PYTHONPATH": tree, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import pytest

    arguments = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    if coverage_of is not None:
        watch = coverage.Coverage(data_file=f"{coverage_of}.coverage", source=[f"{tree}/studies"], messages=False)
        watch.set_option("run:dynamic_context", "test_function")
        watch.start()
        status = pytest.main([*arguments, f"--junitxml={coverage_of}.xml"])
        watch.stop()
        watch.save()
    else:
        status = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(status)


def all_tests(package: str, tree: Path) -> list[str]:
    return [f"tests/{name}" for name in TESTS[package] if (tree / "tests" / name).exists()]


def first_failure(tests: list[str], tree: Path, coverage_of: str | None = None) -> str | None:
    """The first of some tests that fails, or None."""
    output = tree / "output.txt"
    process = FORKED.Process(target=tested, args=(str(tree), tests, str(output), coverage_of))
    process.start()
    process.join(SECONDS if coverage_of is None else 4 * SECONDS)
    hangs = process.is_alive()
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.join()
    if hangs:
        return HANGS
    if process.exitcode == 0:
        return None
    if process.exitcode is None or process.exitcode < 0:
        raise RuntimeError(f"the tests were killed ({process.exitcode}): they say nothing about the fault")
    lines = output.read_text().splitlines()
    return next((line for line in lines if line.startswith(("FAILED", "ERROR"))), " ".join(lines[-3:]))


class Covering(NamedTuple):
    """Which tests of a package execute which lines in their own process: (file, line) -> tests, the quickest first."""

    tests: dict[tuple[str, int], list[str]]

    @classmethod
    def measured(cls, package: str, tree: Path) -> Covering:
        """Runs a package's tests without any fault.

        Raises:
            AssertionError: one of them fails.
        """
        name = str(tree / package)
        failure = first_failure(all_tests(package, tree), tree, name)
        assert failure is None, f"the tests of {package} fail without any fault: {failure}"
        seconds: dict[str, float] = defaultdict(float)
        for case in ElementTree.parse(f"{name}.xml").iter("testcase"):
            path = case.attrib["classname"].replace(".", "/")
            seconds[f"{path}.py::{case.attrib['name'].partition('[')[0]}"] += float(case.attrib["time"])
        named = {tuple(test.removesuffix(".py").replace(".py::", "/").rsplit("/", 2)[1:]): test for test in seconds}
        data = coverage.CoverageData(f"{name}.coverage")
        data.read()
        found = {}
        for file in data.measured_files():
            for line, contexts in data.contexts_by_lineno(file).items():
                tests = {named.get(tuple(context.rsplit(".", 2)[-2:])) for context in contexts} - {None}
                found[str(Path(file).relative_to(tree / "studies")), line] = sorted(
                    tests, key=lambda test: seconds[test]
                )
        return cls(found)


def dies(fault: Fault, tree: Path, covering: Covering) -> str | None:
    """The test that finds the fault, or None where it lives; the fault's difference is printed there."""
    file = tree / "studies" / fault.file
    text = file.read_text()
    try:
        file.write_text(faulty := fault.in_text(text))
        quick = covering.tests.get((fault.file, fault.line), [])
        found = first_failure(quick, tree) if quick else None
        if found is None:  # it may be executed in processes that a test starts
            found = first_failure(all_tests(fault.file.partition("/")[0], tree), tree)
    finally:
        file.write_text(text)
    if found is None:
        lines = difflib.unified_diff(text.splitlines(), faulty.splitlines(), fault.file, fault.operator, "", "", 0, "")
        print("\n".join(lines), flush=True)
    return found


FORKED = multiprocessing.get_context("forkserver")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="FILE", help=f"of {', '.join(FILES)}")
    options = parser.parse_args()
    FORKED.set_forkserver_preload(IMPORTED)
    faults = draw(options.only or FILES, options.number, options.seed)
    living = hanging = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: Queue[Path] = Queue()
        for number in range(options.jobs):
            trees.put(copy_of_the_tree(Path(folder, str(number))))

        def covered(package: str) -> Covering:
            tree = trees.get()
            try:
                return Covering.measured(package, tree)
            finally:
                trees.put(tree)

        packages = sorted({fault.file.partition("/")[0] for fault in faults})
        covering = dict(zip(packages, pool.map(covered, packages), strict=True))
        print("the tests pass without a fault", flush=True)

        def judge(fault: Fault) -> tuple[Fault, str | None, float]:
            tree, start = trees.get(), time.monotonic()
            try:
                return fault, dies(fault, tree, covering[fault.file.partition("/")[0]]), time.monotonic() - start
            finally:
                trees.put(tree)

        for count, done in enumerate(as_completed([pool.submit(judge, fault) for fault in faults]), 1):
            fault, found, seconds = done.result()
            print(
                f"{count}/{len(faults)} {'dies' if found else 'LIVES'} {seconds:.0f} s {fault.file} {found or ''}",
                flush=True,
            )
            living += found is None
            hanging += found == HANGS
    died = len(faults) - living - hanging
    print(f"of {len(faults)} faults {died} die by a failing test, {hanging} hang, {living} live (seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
