"""Measures, before a packed study starts, whether its trials can train as one model and how much faster.

Runs in a warm trial process, as the preflight check does (studies/trial/preflight.py).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from studies.acceleration.packing.stacked_module import Stack, why_not
from studies.acceleration.packing.stacked_steps import StackedSteps
from studies.acceleration.training.malloc import keep_freed_memory
from studies.acceleration.training.optimizer_step import backward, stepper
from studies.acceleration.training.replay import ReplayedModule, is_replayable
from studies.common.class_paths import parameters_of
from studies.common.search_path import use
from studies.protocol.trial_spec import TrialSpec
from studies.trial.arguments import parse_section
from studies.trial.instantiate import build, with_sizes
from studies.trial.preflight import first_batches, sections_of
from studies.trial.trainer import seed_and_threads, without_loggers

STEPS = 8  # consecutive steps of each model in the measurement
FEWEST, MOST, ENOUGH = 3, 12, 2.0  # rounds, and seconds after which FEWEST rounds are enough


def measure(payload: dict[str, Any]) -> dict[str, Any]:
    """Tries packing on an experiment that has passed its preflight check.

    Args:
        payload: as for the preflight check, and `pack`: number of trials to train as one model, at least 2.

    Returns:
        See `gain_of`.
    """
    keep_freed_memory()
    use(payload.get("search_path") or [])
    sections, seed = sections_of(payload), payload["seed"]
    with tempfile.TemporaryDirectory(prefix="harness-packing-") as folder:
        spec = TrialSpec(run_id="packing", experiment=sections, seed=seed, folder=folder, threads=payload["threads"])
        seed_and_threads(spec)
        parts = build(without_loggers(sections), seed)
        trainer = first_batches(spec, parts)
    if parts.datamodule is None or not trainer.optimizers:
        return {"why_not": "a packed trial needs a datamodule and an optimizer"}
    resolved = {**sections, "model": with_sizes(sections["model"], parts.sizes)}
    return gain_of(resolved, parts.datamodule, trainer.optimizers[0], payload["pack"])


def gain_of(
    experiment: dict[str, Any],
    datamodule: LightningDataModule,
    like: torch.optim.Optimizer,
    count: int,
) -> dict[str, Any]:
    """Whether this many trials of an experiment can train as one model, and the speed-up.

    Args:
        like: an example of the trials' optimizer.

    Returns:
        `over`, model parameters in which the trials may differ, and `gain`, the speed-up of packed over sequential
        steps; or `why_not`.
    """
    if str(experiment["trainer"].get("devices", 1)) not in ("1", "auto"):
        return {"why_not": "a trial on several devices cannot share them"}
    loader = datamodule.train_dataloader()
    if not getattr(loader, "owns_randomness", False):
        return {"why_not": f"{type(loader).__name__} may draw from random states that the trials would share"}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    modules: list[Any] = [parse_section("model", experiment["model"]).instantiated().to(device) for _ in range(count)]
    why = why_not(modules)
    if why is not None:
        return {"why_not": why}
    batch = tuple(tensor.to(device) for tensor in next(iter(loader)))
    # As in real trials, one model's step evicts the next one's data from the caches.
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
        alone()  # an optimizer's first step differs from later ones
        stack = Stack(modules)
        try:
            joint: StackedSteps | None = StackedSteps(stack, optimizers)
        except ValueError:  # then each model takes its own optimizer step
            joint = None
        one_by_one, at_once = _quickest(alone, together)
        return {"over": list(modules[0].packable_hyperparameters), "gain": one_by_one / at_once}
    except RuntimeError as error:  # out of memory, or an operation that cannot be mapped
        return {"why_not": " ".join(str(error).split())[:200]}


def _quickest(*works: Callable[[], Any]) -> list[float]:
    """Minimum seconds of each function, measured in turns so that other load affects all of them."""
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
