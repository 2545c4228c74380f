"""The preflight check of an experiment, before anything is created: names, types, ranges, shapes, metrics.

Runs in a warm trial process, where the classes can be imported, and follows the path of a trial for one
training and one validation batch. Each problem it finds is reported to the user in one line.
"""

from __future__ import annotations

import copy
import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from studies.common.objective import PARAMETERS
from studies.common.search_path import use
from studies.common.suggestions import did_you_mean
from studies.common.text import TRACEBACK_LIMIT, clean_text, error_text
from studies.config.parameters import set_parameter
from studies.config.yaml_io import load_yaml
from studies.protocol.channel import Channel
from studies.protocol.checkpoint_files import FOLDER
from studies.protocol.metric_names import metric_name
from studies.protocol.trial_spec import TrialSpec
from studies.trial.arguments import dumped, parse_section
from studies.trial.checkpointing import Checkpoints, knows_its_position, loadable
from studies.trial.data_check import examine_data
from studies.trial.function import preflight_function
from studies.trial.instantiate import Parts, build, links_of, with_sizes
from studies.trial.logger import EventLogger, stand_ins
from studies.trial.random_states import random_states, restore_random_states
from studies.trial.reading_cache import ReadingCache
from studies.trial.run import why_no_test
from studies.trial.trainer import as_list, build_trainer, seed_and_threads, without_loggers


def preflight(payload: dict[str, Any]) -> dict[str, Any]:
    """Checks a whole experiment.

    Args:
        payload: `experiment` (the sections, as YAML), `seed`, `threads`, `metric` (or None), `direction`, `further`
            (objectives: metric -> direction), `search_path`, `extremes`: dotted parameter name -> the limits of its
            search range, or all its choices; and `state`, the state folder, where readings of data are kept (or None).

    Returns:
        `parameters` (all of them under their dotted names, with defaults), `metrics` (logged names), `metric` (its
        logged name), `further` (likewise), `notes` (lines for the user), `gpus` (number of visible GPUs), `data` (see
        data_check). Or `error` (one line), with `traceback` if user code raised.
    """
    return _answered(lambda: _preflight(**payload))


def data_of(payload: dict[str, Any]) -> dict[str, Any]:
    """What the data of an experiment are that is not checked again.

    Args:
        payload: as above.

    Returns:
        `data`; or `error`, as above.
    """
    return _answered(lambda: {"data": _preflight(**{**payload, "metric": None, "further": {}})["data"]})


def _answered(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check()
    except (ValueError, OSError, MisconfigurationException) as error:
        return {"error": " ".join(str(error).split())}
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return {
            "error": " ".join(error_text(error).split()),
            "bad_input": getattr(error, "is_bad_input", False),
            "traceback": clean_text(traceback.format_exc(), TRACEBACK_LIMIT),
        }


def _preflight(
    experiment: str,
    seed: int,
    threads: int,
    metric: str | None,
    extremes: dict[str, list[Any]],
    direction: str = "maximize",
    further: dict[str, str] | None = None,
    search_path: list[str] | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    use(search_path or [])
    sections = sections_of({"experiment": experiment})
    if "function" in sections:
        return preflight_function(sections, metric, extremes)
    with tempfile.TemporaryDirectory(prefix="harness-preflight-") as folder:
        spec = TrialSpec(
            run_id="preflight",
            experiment=sections,
            seed=seed,
            folder=folder,
            metric=metric,
            direction=direction,
            further=further or {},
            threads=threads,
        )
        seed_and_threads(spec)
        parse_section("trainer", sections["trainer"])
        parts = build(without_loggers(sections), seed)
        states = random_states()
        _check_space(sections, parts, seed, extremes)
        restore_random_states(states)  # a split that is drawn is to be that of a trial with this seed
        validated = Validated()
        trainer = first_batches(spec, parts, [validated] if further else [])
        metrics = sorted(trainer.callback_metrics)
        kept = ReadingCache(Path(state) / "data" if state else None, sections, seed, search_path or [])
        data = examine_data(parts, trainer, kept)
    if metric is not None:
        metric = _known_name(metric, metrics, trainer)
    known = sorted({*metrics, PARAMETERS})
    objectives = {_known_name(name, known, trainer): way for name, way in (further or {}).items()}
    for name in objectives:
        if metric in validated.metrics and name in metrics and name not in validated.metrics:
            raise ValueError(f"metrics: {name} is only logged after {metric}: log it in validation as well")
    return {
        "parameters": _parameters(sections, parts),
        "metrics": metrics,
        "metric": metric,
        "further": objectives,
        "notes": _notes(parts, trainer) + data.pop("notes"),
        "gpus": torch.cuda.device_count(),
        "data": data,
    }


class Validated(Checkpoint):
    """Notes the metrics that are known after a validation, when a trial reports them; see callbacks.Verdicts."""

    def __init__(self) -> None:
        self.metrics: set[str] = set()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.metrics |= set(trainer.callback_metrics)


def _known_name(metric: str, metrics: list[str], trainer: Trainer) -> str:
    """A metric under the name by which the module logs it; it may be given as the name that MLflow shows."""
    if metric not in metrics:
        metric = next((name for name in metrics if metric_name(name) == metric), metric)
    if metric not in metrics:
        if trainer.num_training_batches == 0:
            raise ValueError(f"unknown metric {metric}: nothing is logged, as the training dataloader has no batches")
        of_loaders = [name for name in metrics if name.startswith(f"{metric}/dataloader_idx_")]
        raise ValueError(f"unknown metric {metric}{did_you_mean(metric, of_loaders or metrics)}")
    return metric


def _parameters(sections: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """All parameters with their defaults, except those that the harness fills in."""
    given = {name: set((sections.get(name) or {}).get("init_args") or {}) for name in ("model", "data")}
    filled = {f"model.{name}" for name in parts.sizes if name not in given["model"]}
    if "seed" in links_of(sections) and "seed" not in given["data"]:
        filled.add("data.seed")
    with_links = {**sections, "model": with_sizes(sections["model"], parts.sizes)}
    return {name: value for name, value in dumped(with_links).items() if name not in filled}


def _check_space(sections: dict[str, Any], parts: Parts, seed: int, extremes: dict[str, list[Any]]) -> None:
    """Checks that each searched parameter exists and its class accepts the given values."""
    for path, values in extremes.items():
        for value in values:
            changed = copy.deepcopy(sections)
            try:
                set_parameter(changed, path, value)
                section = path.partition(".")[0]
                if section == "trainer":
                    parse_section("trainer", changed["trainer"])
                elif section == "data":
                    build(changed, seed, trainer=False)
                elif section == "model":
                    made = with_sizes(changed["model"], parts.sizes)
                    parse_section("model", made).instantiated()
                else:
                    parse_section(section, changed[section])
            except ValueError as error:
                if str(error).startswith("unknown parameter"):
                    raise ValueError(f"space: {error}") from error
                raise ValueError(f"space: {path}={value!r}: {error}") from error


def sections_of(payload: dict[str, Any]) -> dict[str, Any]:
    """An experiment's sections, which are sent as YAML because JSON has fewer types."""
    return dict(load_yaml(payload["experiment"]))


def first_batches(spec: TrialSpec, parts: Parts, watching: Sequence[Callback] = ()) -> Trainer:
    """Trains and validates on one batch, with the user's callbacks, and writes a checkpoint and reads it back."""
    channel, folder = Channel(None), Path(spec.folder)
    checkpoints = Checkpoints(channel, folder / FOLDER, None, spec.direction)
    checkpoints.folder.mkdir()
    logger = EventLogger(None, folder, spec.run_id)
    limits: dict[str, Any] = {"limit_train_batches": 1, "limit_val_batches": 1, "log_every_n_steps": 1}
    limits |= {"max_epochs": 1, "max_steps": -1, "min_epochs": None, "min_steps": None, "max_time": None}
    limits |= {"val_check_interval": None, "check_val_every_n_epoch": 1, "overfit_batches": 0}
    limits |= {"devices": 1, "strategy": "auto", "num_nodes": 1, "accumulate_grad_batches": 1}
    limits["default_root_dir"] = spec.folder
    limits["logger"] = stand_ins(spec.experiment["trainer"].get("logger"), folder)  # so that logging code runs, too
    for callback in as_list(parts.trainer.get("callbacks")):
        if isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(folder / "theirs")  # a preflight check leaves no files
    try:
        trainer = build_trainer(spec, parts, logger, [checkpoints.resume_point], [*watching, checkpoints], **limits)
    except MisconfigurationException as error:  # e.g. a missing accelerator or contradictory options
        raise ValueError(f"trainer: {error}") from error
    try:
        trainer.fit(parts.module, datamodule=parts.datamodule)
    except (RuntimeError, MisconfigurationException) as error:
        conditioned = re.search(r"(\w+).*conditioned on metric `?([^`\s]+)`? which is not available", str(error))
        if conditioned is None:
            raise
        wanted = conditioned.group(2)
        raise ValueError(
            f"unknown metric {wanted}{did_you_mean(wanted, trainer.callback_metrics)} (in: {error})"
        ) from error
    if trainer.optimizers and checkpoints.last.exists():
        found = loadable(str(checkpoints.last), extends=True)
        if found.path is None:
            raise ValueError(f"its checkpoints cannot be read back: {'; '.join(found.notices)}")
    return trainer


def _notes(parts: Parts, trainer: Trainer) -> list[str]:
    """Notes for the user before the start."""
    notes = []
    why = why_no_test(parts.module, parts.datamodule)
    if why is not None:
        notes.append(f"no test: {why}")
    if not trainer.enable_validation:
        notes.append("no validation: the module or the datamodule has none")
    if not knows_its_position(trainer):
        notes.append("the training data are a stream: an interrupted trial resumes from its last complete epoch")
    return notes
