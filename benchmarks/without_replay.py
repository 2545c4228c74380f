"""Measures rows 1, 5 and 13 with and without replayed steps: the same tree, and a copy whose modules declare nothing.

.venv/bin/python benchmarks/without_replay.py
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bench
from pairs import compare

ROOT = Path(__file__).resolve().parent.parent
DECLARED = "pure_loss = True"


def harness(folder: Path, replays: bool) -> str:
    """A `harness` command of a copy of the code."""
    for package in ("studies", "lightning_modules", "datamodules"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if not replays:
        declaring = [path for path in (folder / "lightning_modules").glob("*.py") if DECLARED in path.read_text()]
        assert declaring
        for path in declaring:
            path.write_text(path.read_text().replace(DECLARED, "pure_loss = False"))
    command = folder / "harness"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} -P -m studies.cli.main "$@"\n')
    command.chmod(0o755)
    return str(command)


def fit(arguments: list[str]) -> float:
    with bench.fresh_folder() as folder:
        answer = bench.answer_of([bench.HARNESS, "train", *arguments, "--no-test", "--json"], folder)
        return float(answer["metrics"]["fit_seconds"])


def study() -> float:
    with bench.fresh_folder() as folder:
        bench.answer_of(bench.study(), folder)
        return bench.window(folder)


def pack(sizes: str) -> float:
    with bench.fresh_folder() as folder:
        options = [*bench.OF_ONE_SHAPE, "--model.hidden_sizes", sizes, "--pack", str(bench.PACKED)]
        bench.answer_of(bench.study(*options, trials=bench.PACKED, workers=1), folder)
        return bench.window(folder)


WORK: dict[str, tuple[Callable[[], float], int]] = {
    **{f"1: {name}": (lambda name=name: fit(bench.FITS[name][0]), 5) for name in ("mlp, batch 64", "mlp, batch 512")},
    "5: 20 trials of mnist_mlp": (study, 3),
    **{f"13: 16 packed MLPs of {sizes}": (lambda sizes=sizes: pack(sizes), 3) for sizes in ("[32]", "[128, 64]")},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commands = [harness(Path(folder, str(replays)), replays) for replays in (True, False)]

        def by(command: str, work: Callable[[], float]) -> Callable[[], float]:
            def measured() -> float:
                bench.HARNESS = command
                return work()

            return measured

        print("| row | with / without | spread of pairs |\n|---|---|---|", flush=True)
        for name, (work, pairs) in WORK.items():
            found = compare(by(commands[0], work), by(commands[1], work), pairs)
            low, high = found.spread
            print(f"| {name} | {found.ratio:.2f} | {low:.2f} to {high:.2f} |", flush=True)
        bench.remove_used()


if __name__ == "__main__":
    os.environ.pop("HARNESS_PLAIN", None)
    main()
