"""Tests a study's best trial once, and registers its model.

Runs in a warm trial process, because it needs torch; meanwhile the driver writes nothing.
"""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from studies.common.errors import StorageFailed, is_transient
from studies.common.objective import better
from studies.common.text import error_text
from studies.inference.example_inputs import example_of, validation_inputs, variable_dimensions
from studies.protocol.metric_names import metric_name
from studies.protocol.trial_spec import TrialSpec
from studies.tracking.client import Tracking
from studies.trial.run import prepare_trained, why_no_test

TESTED = "harness.champion"  # tag of a study's run: the run that was tested and registered, and its value


def publish(payload: dict[str, Any]) -> dict[str, Any]:
    """Tests and registers a study's best trial.

    Args:
        payload: `spec` (path of its spec.json), `tracking_uri`, `parent` (run of the study), `model_name`,
            `study`, `metric`, `direction`, `value` (the best), `requirements` (pip, for the model),
            `search_path`; and perhaps `test`, the metrics of the test set if it has been tested.

    Returns:
        `test` (name -> value) and `note` (a line for the user, or ""); or `error`.
    """
    try:
        return _publish(**payload)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _publish(
    spec: str,
    tracking_uri: str,
    parent: str,
    model_name: str,
    study: str,
    metric: str,
    direction: str,
    value: float,
    requirements: list[str],
    search_path: list[str],
    test: dict[str, float] | None = None,
) -> dict[str, Any]:
    trial = replace(TrialSpec.load(spec), search_path=search_path)
    tracking = Tracking(tracking_uri, None)
    mark = f"{trial.run_id} {value!r}"  # an extended trial counts as a new champion
    if tracking.tag(parent, TESTED) == mark:
        known = tracking.run(parent).metrics
        return {"test": {name: number for name, number in known.items() if name.startswith("test/")}, "note": ""}

    with tempfile.TemporaryDirectory(prefix="harness-champion-") as folder:
        module, datamodule, trainer = prepare_trained(replace(trial, folder=folder), Path(trial.folder))
        untested = ""
        if test is None:
            test, untested = {}, ""
            try:
                test = tested(trial, Path(folder), module, datamodule, trainer, tracking)
            except Exception as error:  # the model is still valid
                if is_transient(error):
                    raise
                traceback.print_exc()
                untested = f"; its test failed, and the same command tries it again: {error_text(error)}"
            log_test(test, parent, trial.number, tracking)

        module = module.cpu().eval()
        module.trainer = None  # type: ignore[assignment]  # an exported program has no trainer
        tags = {"harness.study": study, "harness.run_id": trial.run_id, "harness.metric": metric}
        tags["harness.value"] = repr(value)
        champion = tracking.models.champion(model_name)
        version = tracking.models.version_of(model_name, tags)
        if version is None:
            try:
                example = example_of(validation_inputs(module if datamodule is None else datamodule))
                with torch.no_grad():
                    variable = variable_dimensions(example)
                    publish = tracking.models.publish_model
                    version = publish(parent, module, example, variable, model_name, requirements, tags)
            except Exception as error:  # no forward, non-tensor inputs, operations that cannot be exported
                if is_transient(error) or isinstance(error, StorageFailed):
                    raise
                traceback.print_exc()
                tracking.set_tags(parent, {TESTED: mark})
                reason = " ".join(str(error).strip().split("\n\n")[0].split())[:300] or type(error).__name__
                kept = f"its checkpoint is run {trial.run_id}'s artifact checkpoints/best.ckpt"
                return {"test": test, "note": f"the champion is not in the model registry, {kept}: {reason}"}
    note = f"model {model_name} version {version} is models:/{model_name}@champion"
    if _current_champion_is_better(champion, study, metric, direction, value):
        note = f"model {model_name} version {version} is registered; another study's champion is better and stays"
    else:
        tracking.models.set_champion(model_name, version)
    if not untested:
        tracking.set_tags(parent, {TESTED: mark})
    return {"test": test, "note": " ".join(f"{note}{untested}".split())}


def tested(
    trial: TrialSpec, folder: Path, module: Any, datamodule: Any, trainer: Any, tracking: Tracking
) -> dict[str, float]:
    """Tests an ended trial's best weights; logs the metrics and what test_step logs to its run. {} if it has no test.

    Args:
        folder, module, datamodule, trainer: where the trainer of prepare_trained may write, and what that returned.
    """
    if why_no_test(module, datamodule) is not None:
        return {}
    test: dict[str, float] = {}
    for results in trainer.test(module, datamodule=datamodule, verbose=False):
        test |= {name: float(number) for name, number in results.items()}
    tracking.log_files(trial.run_id, folder / "artifacts")  # logged by the module's test_step
    known = tracking.run(trial.run_id).metrics
    best_step = int(known.get("best_step", known.get("best/step", 0)))  # the latter of an older version
    log_test(test, trial.run_id, best_step, tracking)
    return test


def log_test(test: dict[str, float], run_id: str, step: int, tracking: Tracking) -> None:
    """Logs metrics of the test set to a run, once."""
    stored = {metric_name(name): number for name, number in test.items()}
    if not stored.items() <= tracking.run(run_id).metrics.items():
        tracking.log_metrics(run_id, test, step)


def _current_champion_is_better(
    champion: dict[str, str] | None, study: str, metric: str, direction: str, value: float
) -> bool:
    """Whether another study's champion, by the same metric, is better."""
    if champion is None or champion.get("harness.study") == study or champion.get("harness.metric") != metric:
        return False
    return better(float(champion.get("harness.value", "nan")), value, direction)
