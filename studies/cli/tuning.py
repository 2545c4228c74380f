"""`harness lr` and `harness batch-size`: suggestions for two parameters. No run is created."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from studies.cli.bad_input import BadInput, at_least
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.cli.training import load_experiment, threads_of
from studies.common.errors import WorkFailed
from studies.config.experiment import Experiment
from studies.config.yaml_io import dump_yaml


def lr(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """`harness lr`: trains a copy for some steps, each with a larger learning rate, and draws the loss."""
    at_least("steps", options.steps, 20)
    if not 0 < options.low < options.high:
        raise BadInput(f"low must be above 0 and below high, but got low={options.low} and high={options.high}")
    experiment = load_experiment(options, overrides)
    output = new_file(options.output, f"{experiment.name}-lr")
    phase = f"importing torch, then {options.steps} steps with learning rates from {options.low:g} to {options.high:g}"
    how = {"low": options.low, "high": options.high, "steps": options.steps}
    found = _ask(experiment, "find_learning_rate", threads_of(options), phase, how)
    from studies.plots.figure import save
    from studies.plots.tuning import learning_rate_range

    rates, losses, suggestion = found["learning_rates"], found["losses"], found["suggestion"]
    if not rates:
        raise WorkFailed(f"{experiment.name} took no training step: its training loader is empty")
    save(learning_rate_range(rates, losses, suggestion, f"Learning rates of {experiment.name}"), output)
    command = None if suggestion is None else _command(options, overrides, found["parameter"], suggestion)
    if options.json:
        about = {"experiment": experiment.name, "picture": str(output), "command": command}
        print_json({**about, **found})
        return 0
    show(f"picture     {output}")
    if suggestion is None:
        show("suggestion  none: the loss does not fall in this range; try other --low and --high, or more --steps")
        return 0
    show(f"suggestion  {found['parameter']} {suggestion:g}, where the loss falls fastest")
    show(f"next:       {command}")
    return 0


def batch_size(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """`harness batch-size`: doubles a copy's batch size until it does not fit in memory."""
    if options.largest < 2 or options.largest & (options.largest - 1):
        raise BadInput(f"largest must be a power of two, at least 2, but got largest={options.largest}")
    experiment = load_experiment(options, overrides)
    phase = f"importing torch, then a few steps with batches of 2 to {options.largest}"
    found = _ask(experiment, "find_batch_size", threads_of(options), phase, {"largest": options.largest})
    size, device = found["batch_size"], found["device"]
    command = _command(options, overrides, found["parameter"], size)
    if options.json:
        print_json({"experiment": experiment.name, **found, "largest": options.largest, "command": command})
        return 0
    tried = "the largest that was tried (--largest)" if size == options.largest else "the largest that fits"
    tried = "such a batch holds all training data" if found["holds_all_data"] else tried
    show(f"{found['parameter']} {size}: {tried}, on {device}")
    if device == "cpu":  # no command: a batch is not better for being large
        show("On a CPU memory is rarely what limits a batch. This says what fits, not what learns well or fast.")
        return 0
    show("It fits in the memory of this GPU. Whether it also learns well is for `harness study` to say.")
    show(f"next: {command}")
    return 0


def _ask(experiment: Experiment, function: str, threads: int, phase: str, how: dict[str, Any]) -> dict[str, Any]:
    """Calls a function of studies.trial.tuning where torch is.

    Raises:
        ValueError: in one line: bad input.
        WorkFailed: in one line: the user's code failed; the traceback is shown.
    """
    from studies.console.progress import Display
    from studies.executors.local import LocalExecutor

    payload = {
        "experiment": dump_yaml(experiment.sections),
        "seed": experiment.seed,
        "threads": threads,
        "search_path": experiment.search_path,
        **how,
    }
    executor = LocalExecutor()
    executor.warm()
    try:
        with Display(title=f"tune {experiment.name}", metric=None, direction="maximize", total=1) as display:
            display.phase(phase)
            answer: dict[str, Any] = executor.call(f"studies.trial.tuning:{function}", payload, display.refresh)
            if "traceback" in answer:
                display.say(answer["traceback"])
    except RuntimeError as error:
        raise WorkFailed(f"{experiment.name} crashed: {error}") from error
    finally:
        executor.close()
    if "traceback" in answer:
        raise WorkFailed(f"{experiment.name} failed: {answer['error']}")
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def _command(options: argparse.Namespace, overrides: dict[str, str], parameter: str, value: float) -> str:
    """The `harness train` command with the suggestion, and with what else was given here."""
    words = ["harness", "train", options.experiment]
    words += [word for file in options.config for word in ("--config", file)]
    words += [word for name, text in overrides.items() if name != parameter for word in (f"--{name}", text)]
    words += [] if options.seed is None else ["--seed", str(options.seed)]
    return shlex.join([*words, f"--{parameter}", f"{value:g}" if isinstance(value, float) else str(value)])


def new_file(given: str | None, stem: str) -> Path:
    """--output, or a name in the current folder that is not in use.

    Raises:
        BadInput: --output exists, or its folder does not.
    """
    if given is None:
        names = (f"{stem}.png" if number == 1 else f"{stem}-{number}.png" for number in range(1, 10_000))
        return next(path for path in map(Path, names) if not path.exists() and not path.is_symlink())
    path = Path(given)
    if path.suffix != ".png":
        raise BadInput(f"output must be a .png file, but got output={given!r}")
    if path.exists() or path.is_symlink():
        raise BadInput(f"{path} already exists: choose another --output, or remove it first")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent} to write {path.name} in")
    return path
