"""Trains and searches third-party Lightning modules, and compares them with Lightning itself, bit by bit.

    python benchmarks/compatibility.py FOLDER [NAME ...]

FOLDER has a folder for each case: FOLDER/NAME/NAME.yaml, an experiment whose `description` is "SOURCE | FEATURES", and
next to it, or where its class paths point, the unchanged sources. Each case runs in its own folder on one CPU thread:

- by Lightning: LightningCLI fits the file without `search:`, in a process in which the harness only resolves classes
  (`class_path: ./net.py:Net`, and `import lightning` if only pytorch_lightning is installed);
- by `harness train`, and by `harness train --plain`: the module's state and the optimizers' states in their last
  checkpoints must equal Lightning's bit by bit;
- by `harness study`: three trials, which must complete, with exit status 0.

Prints a row of the table in docs/compatibility.md for each case. The processes' output is in
FOLDER/NAME/.compatibility/*.log.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LightningCLI

from studies.common import lightning_alias, search_path
from studies.config.experiment import load

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ".compatibility"
COMPARED = "compared.txt"
SEED = 7
TRIALS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of these cases alone")
    options = parser.parse_args()
    lightning_alias.install()
    print("| source | classes | notable features | train | --plain | study |\n|---|---|---|---|---|---|")
    for file in sorted(options.folder.resolve().glob("*/*.yaml")):
        if file.stem == file.parent.name and (not options.names or file.stem in options.names):
            print(row(file), flush=True)


def row(file: Path) -> str:
    """A case's row of the table."""
    experiment = load(str(file))
    source, _, habit = experiment.description.partition(" | ")
    classes = [section["class_path"].rpartition(".")[2] for section in (experiment.model, experiment.data) if section]
    return f"| {source} | {', '.join(classes)} | {habit} | {' | '.join(outcomes(file))} |"


def outcomes(file: Path) -> list[str]:
    """The outcomes of `train`, `train --plain` and `study`, in a word or two each."""
    scratch = file.parent / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    exit_status = {}
    for name, more in {"train": [], "plain": ["--plain"]}.items():
        exit_status[name] = harness("train", file, name, "--seed", str(SEED), "--no-test", *more)
    # Forked, since cases have modules of the same names.
    process = multiprocessing.get_context("fork").Process(target=compare_with_lightning, args=(file,))
    process.start()
    process.join()
    if process.exitcode:
        return ["Lightning itself fails", "", ""]
    compared = dict(line.split(": ", 1) for line in (scratch / COMPARED).read_text().splitlines())
    found = [f"exit status {status}" if status else compared[name] for name, status in exit_status.items()]
    status = harness("study", file, "study", "--trials", str(TRIALS), "--workers", "1")
    return [*found, f"exit status {status}" if status else f"{TRIALS} trials"]


def harness(command: str, file: Path, name: str, *arguments: str) -> int:
    """Runs `harness train` or `harness study` in the case's folder; returns the exit status."""
    scratch = file.parent / SCRATCH
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    more = {"HARNESS_HOME": str(scratch / name), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = [sys.executable, "-P", "-m", "studies.cli.main", command, file.name, "--threads", "1", *arguments]
    with (scratch / f"{name}.log").open("w") as log:
        return subprocess.run(process, cwd=file.parent, env=os.environ | more, stdout=log, stderr=log).returncode


def compare_with_lightning(file: Path) -> None:
    """Fits an experiment by LightningCLI; records whether the last checkpoints of `harness train` are equal."""
    os.chdir(file.parent)
    log = os.open(Path(SCRATCH, "lightning.log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    experiment = load(str(file))
    search_path.use(experiment.search_path)
    torch.set_num_threads(1)
    cli = fitted_by_lightning(experiment.sections)
    optimizers = [optimizer.state_dict() for optimizer in cli.trainer.optimizers]
    expected = {"state_dict": cli.model.state_dict(), "optimizer_states": optimizers}
    with Path(SCRATCH, COMPARED).open("w") as compared:
        for name in ("train", "plain"):
            outcome = "no checkpoint"
            for checkpoint in Path(SCRATCH, name).rglob("last.ckpt"):
                # It may hold objects of the module's classes, which can be imported in this process.
                found = torch.load(checkpoint, map_location="cpu", weights_only=False)
                unequal = differences(expected, {part: found.get(part, []) for part in expected})
                outcome = f"differs in {len(unequal)} places, first {unequal[0]}" if unequal else "equal"
            compared.write(f"{name}: {outcome}\n")


def fitted_by_lightning(sections: dict[str, Any]) -> Any:
    """A LightningCLI after fitting an experiment's sections."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        # Many modules call `self.logger.experiment.add_image`: this logger accepts any call.
        trainer = {"logger": {"class_path": "pytorch_lightning.loggers.logger.DummyLogger"}, "default_root_dir": folder}
        given = {name: section for name, section in sections.items() if section is not None}
        given["trainer"] = trainer | given["trainer"]
        config.write_text(yaml.safe_dump({"seed_everything": SEED, **given}))
        return LightningCLI(
            LightningModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            args=["fit", "--config", str(config)],
        )


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """The places in which two nested states differ."""
    if isinstance(expected, torch.Tensor):
        same = isinstance(found, torch.Tensor) and expected.dtype == found.dtype and torch.equal(expected, found)
        return [] if same else [where]
    if isinstance(expected, Mapping) and isinstance(found, Mapping) and set(expected) == set(found):
        return [place for key in expected for place in differences(expected[key], found[key], f"{where}.{key}")]
    if isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [place for index, pair in pairs for place in differences(*pair, f"{where}.{index}")]
    return [] if expected == found else [where]


if __name__ == "__main__":
    main()
