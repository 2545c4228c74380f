"""Tries an experiment out before anything is created: names, types, ranges, shapes, metrics.

Runs in a warm trial process, where the classes can be imported, and goes the way a trial goes, for one
training and one validation batch. What it finds wrong is the user's to mend, in one line.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from studies.allocator import keep_freed_memory
from studies.arguments import typed, typed_trainer
from studies.components import build_datamodule, build_module, import_class, parameters_of, sizes_of
from studies.fast_step import backward, stepper
from studies.messages import TRACEBACK_LIMIT, TrialSpec, clean_text, error_text
from studies.nearest import nearest
from studies.replay import ReplayedModule, is_replayable
from studies.trial import build_trainer, seed_and_threads

STEPS = 8  # in a row, of each of the models that packing is tried on
FEWEST, MOST, ENOUGH = 3, 12, 2.0  # turns that they take, and seconds after which the fewest are enough


def rehearse(payload: dict[str, Any]) -> dict[str, Any]:
    """Checks a whole experiment.

    Args:
        payload: `experiment` (model, data, trainer sections), `seed`, `threads`, `metric` (or None), and
            `extremes`: dotted parameter name -> values at the ends of its search space, or all its choices;
            `pack`: how many trials shall train as one model, 1 by default.

    Returns:
        `experiment` with all defaults and types put in, `metrics` (names that validation logs), `gpus`
        (how many are visible), and of packed trials `pack`: `over` and `gain`, or `why_not`; see `packed`. Or
        `error` (one line), with `traceback` where the user's own code raised.
    """
    try:
        return _rehearse(**payload)
    except (ValueError, OSError) as error:
        return {"error": " ".join(str(error).split())}
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return {
            "error": " ".join(error_text(error).split()),
            "bad_input": type(error).__name__ == "DataUnavailable",
            "traceback": clean_text(traceback.format_exc(), TRACEBACK_LIMIT),
        }


def _rehearse(
    experiment: dict[str, Any],
    seed: int,
    threads: int,
    metric: str | None,
    extremes: dict[str, list[Any]],
    pack: int = 1,
) -> dict[str, Any]:
    keep_freed_memory()
    model_class = _class_of(experiment, "model", LightningModule)
    data_class = _class_of(experiment, "data", LightningDataModule)
    given = {name: experiment[name].get("init_args") or {} for name in ("model", "data")}

    linked_data = {"seed"} - set(given["data"])
    data = {"class_path": experiment["data"]["class_path"]}
    data["init_args"] = typed(data_class, "data", given["data"], linked_data)
    trainer = typed_trainer(experiment.get("trainer") or {})
    datamodule = build_datamodule(data, seed)
    sizes = sizes_of(datamodule)

    linked = set(sizes) - set(given["model"])
    model = {"class_path": experiment["model"]["class_path"]}
    model["init_args"] = typed(model_class, "model", given["model"], linked)
    resolved = {"model": model, "data": data, "trainer": trainer}
    _check_space(resolved, (model_class, linked), (data_class, linked_data), sizes, seed, extremes)

    metrics, optimizer = _first_batches(resolved, datamodule, sizes, seed, threads)
    if metric is not None and metric not in metrics:
        raise ValueError(f"unknown metric {metric}{nearest(metric, metrics)}")
    report = {"experiment": resolved, "metrics": metrics, "gpus": torch.cuda.device_count()}
    if pack > 1:
        report["pack"] = packed(resolved, datamodule, sizes, optimizer, pack)
    return report


def _class_of(experiment: dict[str, Any], section: str, base: type) -> type:
    class_path = experiment[section]["class_path"]
    try:
        cls = import_class(class_path)
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"{section}: class_path={class_path!r} is not a {base.__name__}")
    return cls


def _check_space(
    resolved: dict[str, Any],
    model: tuple[type, set[str]],
    data: tuple[type, set[str]],
    sizes: dict[str, Any],
    seed: int,
    extremes: dict[str, list[Any]],
) -> None:
    """Each searched parameter exists, and its ends are accepted by the class that gets them."""
    for path, values in extremes.items():
        section, _, name = path.partition(".")
        cls, linked = {"model": model, "data": data, "trainer": (Trainer, set())}[section]
        if name not in parameters_of(cls) - linked:
            names = parameters_of(cls) - linked
            raise ValueError(f"space: unknown parameter {path}{nearest(name, names, section + '.')}")
        for value in values:
            try:
                if section == "trainer":
                    typed_trainer({name: value})
                    continue
                arguments = typed(cls, section, {**resolved[section]["init_args"], name: value}, linked)
                changed = {**resolved[section], "init_args": arguments}
                if section == "model":
                    build_module(changed, sizes)
                else:
                    sizes_of(build_datamodule(changed, seed))
            except ValueError as error:
                raise ValueError(f"space: {path}={value!r}: {error}") from error


def _first_batches(
    resolved: dict[str, Any], datamodule: LightningDataModule, sizes: dict[str, Any], seed: int, threads: int
) -> tuple[list[str], torch.optim.Optimizer]:
    """Trains and validates on one batch; returns the names of the metrics that were logged, and the optimizer."""
    with tempfile.TemporaryDirectory(prefix="harness-rehearsal-") as folder:
        spec = TrialSpec(run_id="rehearsal", experiment=resolved, seed=seed, folder=str(Path(folder)), threads=threads)
        seed_and_threads(spec)
        module = build_module(resolved["model"], sizes)
        limits: dict[str, Any] = {"limit_train_batches": 1, "limit_val_batches": 1, "log_every_n_steps": 1}
        limits |= {"max_epochs": 1, "max_steps": -1, "val_check_interval": None, "check_val_every_n_epoch": 1}
        limits |= {"devices": 1, "strategy": "auto", "num_nodes": 1, "accumulate_grad_batches": 1, "callbacks": []}
        trainer = build_trainer(spec, False, [], **limits)
        trainer.fit(module, datamodule=datamodule)
        return sorted(trainer.callback_metrics), trainer.optimizers[0]


def packed(
    experiment: dict[str, Any],
    datamodule: LightningDataModule,
    sizes: dict[str, Any],
    like: torch.optim.Optimizer,
    count: int,
) -> dict[str, Any]:
    """Whether so many trials of an experiment may train as one model, and what that gains.

    Args:
        like: an optimizer such as the trials have.

    Returns:
        `over`, parameters of the model in which they may differ, and `gain`, how many times as fast they take
        their steps as one after the other; or `why_not`.
    """
    from studies.stack import Stack, why_not
    from studies.stack_steps import StackedSteps

    if str(experiment["trainer"].get("devices", 1)) not in ("1", "auto"):
        return {"why_not": "a trial of several devices has them for itself"}
    loader = datamodule.train_dataloader()
    if not getattr(loader, "owns_randomness", False):
        return {"why_not": f"{type(loader).__name__} may draw from random states that the trials would share"}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules: list[Any] = [build_module(experiment["model"], sizes).to(device) for _ in range(count)]
    why = why_not(modules)
    if why is not None:
        return {"why_not": why}
    batch = tuple(tensor.to(device) for tensor in next(iter(loader)))
    # As trials have them: what is in the caches after one model's step is not what the next one needs.
    options = {name: value for name, value in like.defaults.items() if name in parameters_of(type(like))}
    optimizers = [type(like)(module.parameters(), **options) for module in modules]  # type: ignore[call-arg]
    steppers = [stepper(optimizer) for optimizer in optimizers]
    replays = [ReplayedModule(module) if is_replayable(module) else None for module in modules]

    def alone() -> None:
        for module, step, replay in zip(modules, steppers, replays, strict=True):
            for _ in range(STEPS):
                if replay is None or replay(batch) is None:
                    loss, _ = module.loss_and_outputs(batch)
                    module.zero_grad()
                    backward(loss)
                step()

    def together() -> None:
        if joint is not None:
            joint.begin()
        for _ in range(STEPS):
            if joint is not None:
                joint.take(tuple(torch.stack([tensor] * count) for tensor in batch))
                continue
            stack.learn([batch] * count)
            for step in steppers:
                step()

    try:
        alone()  # an optimizer's first step is not like its others
        stack = Stack(modules)
        try:
            joint: StackedSteps | None = StackedSteps(stack, optimizers)
        except ValueError:  # then each takes its own step
            joint = None
        one_by_one, at_once = _quickest(alone, together)
        return {"over": list(modules[0].packs_over), "gain": one_by_one / at_once}
    except RuntimeError as error:  # memory, or an operation that cannot be mapped
        return {"why_not": " ".join(str(error).split())[:200]}


def _quickest(*works: Callable[[], Any]) -> list[float]:
    """Seconds that each of some works takes at its quickest; in turns, so that a busy neighbour is one of all."""
    quickest = [math.inf] * len(works)
    first, turns = time.perf_counter(), 0
    while turns < FEWEST or (turns < MOST and time.perf_counter() - first < ENOUGH):
        turns += 1
        for place, work in enumerate(works):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            quickest[place] = min(quickest[place], time.perf_counter() - began)
    return quickest
