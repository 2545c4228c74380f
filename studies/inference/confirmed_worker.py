"""Tests the runs of a confirmed winner, and registers one of them as the champion.

Runs in a warm trial process, because it needs torch; meanwhile the driver writes nothing.
"""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from studies.inference.register_worker import publish, tested
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.client import Tracking
from studies.trial.run import prepare_trained


def crown(payload: dict[str, Any]) -> dict[str, Any]:
    """Tests each run once, and registers the best of them.

    Args:
        payload: `specs` (paths of the winner's spec.json), `best` (index of the one to register), `verdict` (for the
            model's description), and the other arguments of register_worker.publish.

    Returns:
        `test` (metric -> its value for each run) and `note` (a line for the user, or ""); or `error`.
    """
    try:
        return _crown(**payload)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _crown(specs: list[str], best: int, verdict: str, **publishing: Any) -> dict[str, Any]:
    tracking = Tracking(publishing["tracking_uri"], None)
    every = [_tested(replace(TrialSpec.load(path), search_path=publishing["search_path"]), tracking) for path in specs]
    result = publish({"spec": specs[best], "test": every[best], **publishing})
    if "error" in result:
        return result
    test = {name: [one[name] for one in every] for name in every[best] if all(name in one for one in every)}
    tags = {"harness.study": publishing["study"], "harness.run_id": Path(specs[best]).parent.name}
    version = tracking.models.version_of(publishing["model_name"], tags)
    if version is not None:
        tracking.models.describe(publishing["model_name"], version, _description(verdict, test))
    return {"test": test, "note": result["note"]}


def _tested(trial: TrialSpec, tracking: Tracking) -> dict[str, float]:
    """A run's metrics of the test set; it is tested unless an earlier start has done so."""
    known = {name: value for name, value in tracking.run(trial.run_id).metrics.items() if name.startswith("test/")}
    if known:
        return known
    with tempfile.TemporaryDirectory(prefix="harness-confirmed-") as folder:
        module, datamodule, trainer = prepare_trained(replace(trial, folder=folder), Path(trial.folder))
        return tested(trial, Path(folder), module, datamodule, trainer, tracking)


def _description(verdict: str, test: dict[str, list[float]]) -> str:
    """A registered model's description: the verdict, and its test metrics with their intervals."""
    from studies.statistics.intervals import summarize

    lines = [f"Confirmed by `harness confirm`: {verdict}."]
    for name, values in test.items():
        summary = summarize(values)
        between = "" if summary.low is None else f", 95% interval {summary.low:.6g} to {summary.high:.6g}"
        lines.append(f"- {name} {summary.mean:.6g} over {summary.seeds} seeds{between}")
    return "\n".join(lines)
