"""`harness replay`: is a run's training still what it was, or what a study drew?"""

from __future__ import annotations

import argparse
import math
from typing import Any

from studies.cli import known_names
from studies.cli.bad_input import BadInput
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.cli.training import threads_of
from studies.common.state_folder import StateFolder

INTERRUPTED = "interrupted: nothing was compared"
SHOWN = 8  # differences shown of each kind


def replay(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """`harness replay`: 0 if the training is identical, 1 if it parts, 130 or 143 if it was interrupted."""
    threads = threads_of(options)
    if options.run in known_names.studies():
        return _study(options)
    from studies.driver import replay as driver

    found = driver.replay(options.run, options.here, threads, options.trust, options.quiet)
    if found.signal is not None:
        if options.json:
            print_json({"error": INTERRUPTED, "hint": ""})
        else:
            show(INTERRUPTED)
        return 128 + found.signal
    assert found.comparison is not None
    if options.json:
        print_json(_as_json(found))
    else:
        _print(found)
    return 0 if found.is_identical else 1


def _study(options: argparse.Namespace) -> int:
    """Draws a study's trials again: 0 if they are the same, 1 if one differs or none could be drawn."""
    if options.here or options.threads is not None:
        raise BadInput(f"{options.run} is a study, whose parameters are drawn again: --here and --threads are for runs")
    from studies.driver.study_replay import replay_study

    answer, lines = replay_study(StateFolder.find(), options.run)
    if options.json:
        print_json(answer)
    else:
        for line in lines:
            show(line)
    return 0 if answer["same"] else 1


def _as_json(found: Any) -> dict[str, Any]:
    comparison = found.comparison
    return {
        "run_id": found.run_id,
        "here": found.here,
        "identical": found.is_identical,
        "compared": {"epochs": comparison.epochs, "samples": comparison.samples, "values": comparison.values},
        "parts": None if comparison.parting is None else comparison.parting.to_json(),
        "weights": found.weights or None,
        "differences": [{"kind": item.kind, "text": item.text} for item in found.differences],
        "notes": found.notes,
        "seconds": found.seconds,
    }


def _print(found: Any) -> None:
    comparison = found.comparison
    what = f"{comparison.values} logged values"
    if comparison.epochs:
        what += f", the weights after each of {comparison.epochs} epochs"
        what += " and the order of their samples" if comparison.samples == comparison.epochs else ""
    else:
        what += "; the run has no fingerprints, so the weights were not compared"
    if found.is_identical:
        show(f"identical   {what}")
        _print_differences(found, "although", "and")
        return
    show(f"parts       {_place(comparison.parting)}")
    if found.weights:
        weights = found.weights
        by = "whose shape is another" if math.isinf(weights["by"]) else f"by {weights['by']:.3g}"
        show(
            f"weights     {weights['differing']} of {weights['total']} tensors differ in {weights['checkpoint']}, most "
            f"{weights['parameter']}, {by}"
        )
    show(f"compared    {what}")
    if not found.differences:
        show("reason      unknown: code, data, packages, threads and device are as they were, so this training is not")
        show("            deterministic: clocks, unseeded random numbers, unordered sets or atomic additions on a GPU")
    _print_differences(found, "likely", "or")


def _print_differences(found: Any, first: str, later: str) -> None:
    kinds: dict[str, int] = {}
    for number, difference in enumerate(found.differences):
        kinds[difference.kind] = kinds.get(difference.kind, 0) + 1
        if kinds[difference.kind] <= SHOWN:
            show(f"{later if number else first:<12}{difference.kind}: {difference.text}")
    for kind, count in kinds.items():
        if count > SHOWN:
            show(f"            and {count - SHOWN} more of {kind}")


def _place(parting: Any) -> str:
    where = "" if parting.epoch is None else f"in epoch {parting.epoch}"
    where += "" if parting.step is None else f" at step {parting.step}"
    if parting.what == "samples":
        return f"{where}: the order of samples differs"
    if parting.what == "weights":
        return f"{where}: the weights differ after it, first {parting.name}"
    if parting.what == "ending":
        return f"at the end: {parting.name}"
    if parting.what == "missing":
        return f"{where}: {parting.name} is missing in the replay"
    by = "" if parting.by is None else f", by {parting.by:.3g}"
    return f"{where or 'at the end'}: {parting.name} was {parting.then:.9g} and is {parting.now:.9g}{by}"
