"""Optimizers and learning-rate schedules by name, for `configure_optimizers`."""

import math
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import LambdaLR

Optimizer = Literal["sgd", "momentum", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "linear", "cosine", "onecycle"]

ARGUMENTS = ("optimizer", "learning_rate", "weight_decay", "schedule")  # of `configure`
MOMENTUM = 0.9
WARMUP = 0.3  # share of the steps in which onecycle climbs to its peak
WARMUP_FROM = 1 / 25  # where it starts, as a share of the peak; both are torch's OneCycleLR defaults


def checked(optimizer: str, learning_rate: float, weight_decay: float, schedule: str) -> dict[str, Any]:
    """Checks the arguments of `configure`, which modules take in their constructors and use later.

    Args:
        optimizer: one of sgd, momentum, adam, adamw, rmsprop.
        learning_rate: finite and > 0.
        weight_decay: finite and >= 0.
        schedule: one of constant, linear, cosine, onecycle.

    Raises:
        ValueError: a value is outside its range.
    """
    if optimizer not in get_args(Optimizer):
        raise ValueError(f"optimizer must be one of {', '.join(get_args(Optimizer))}, but got {optimizer=}")
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, but got {schedule=}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be a finite number greater than 0, but got {learning_rate=}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay must be a finite number of at least 0, but got {weight_decay=}")
    return {
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "schedule": schedule,
    }


def configure(
    module: pl.LightningModule,
    *,
    optimizer: Optimizer,
    learning_rate: float,
    weight_decay: float = 0.0,
    schedule: Schedule = "constant",
) -> dict[str, Any]:
    """Builds what `LightningModule.configure_optimizers` returns.

    Weight decay acts on matrices and convolution kernels only: biases and the scales of normalization
    layers are small in number and shrinking them does not regularize.

    Args:
        module: its trainable parameters are optimized; its trainer determines the total number of steps.
        optimizer: `momentum` is SGD with Nesterov momentum 0.9; `adam` adds the decay to the gradient (L2),
            `adamw` takes it from the weights (Loshchilov & Hutter 2019, arXiv:1711.05101).
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0.
        schedule: see `schedule_factor`; stepped once per optimizer step.

    Returns:
        {"optimizer": ...} and, unless the schedule is constant, {"lr_scheduler": {...}}.

    Raises:
        ValueError: the schedule needs an end, but the trainer has none.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]  # each group costs one kernel call
    if weight_decay:
        matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
        vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        groups = [group for group in (matrices, vectors) if group["params"]]
    built = _build(optimizer, groups, learning_rate)
    if schedule == "constant":
        return {"optimizer": built}

    total_steps = module.trainer.estimated_stepping_batches
    if math.isinf(total_steps):
        raise ValueError(f"{schedule=} needs a known end: set trainer.max_epochs or trainer.max_steps")
    scheduler = LambdaLR(built, lambda step: schedule_factor(schedule, step, int(total_steps)))
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def schedule_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """The share of the peak learning rate that optimizer step `step` (0-based) of `total_steps` uses.

    constant is 1; linear and cosine fall from 1 to 0; onecycle climbs from 1/25 to 1 in the first 30% of the
    steps and falls to 0 in the rest, both along half a cosine (Smith & Topin 2018, arXiv:1708.07120).
    """
    progress = min(step / max(total_steps, 1), 1.0)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return _falling_cosine(progress)
        case "onecycle" if progress < WARMUP:
            return 1.0 - (1.0 - WARMUP_FROM) * _falling_cosine(progress / WARMUP)
        case "onecycle":
            return _falling_cosine((progress - WARMUP) / (1.0 - WARMUP))


def _falling_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))  # 1 at 0, 0 at 1


def _build(optimizer: Optimizer, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    # Fused kernels update all parameters in one call: a fifth of a small MLP's step, CPU included.
    match optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=learning_rate, fused=True)
        case "momentum":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=learning_rate)  # has no fused kernel
