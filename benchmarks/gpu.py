"""Time of a small model's step on a GPU, and the gain of each of the harness's optimizations.

    python benchmarks/gpu.py

prints the table of docs/benchmarks.md: microseconds per optimizer step and model, the median of three times 300
steps. The models are the shipped ones on MNIST, alone in a Trainer, or stacked as packed trials.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules import MNIST
from datamodules.mnist import normalized
from lightning_modules import CNN, MLP
from studies.acceleration.packing.stacked_module import Stack
from studies.acceleration.packing.stacked_steps import StackedSteps
from studies.acceleration.training.epoch_loop import speed_up
from studies.acceleration.training.optimizer_step import stepper

STEPS, EPOCHS, WORKERS = 300, 4, 4  # the first epoch is not counted
MODELS: dict[str, tuple[Callable[[], Any], int, int]] = {  # constructor, batch size, models in a pack
    "MLP of 128 and 64 units, batch 64": (lambda: MLP(hidden_sizes=[128, 64]), 64, 64),
    "CNN (mnist_cnn), batch 128": (lambda: CNN(schedule="constant"), 128, 16),
}


class Clock(pl.Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *arguments: Any) -> None:
        torch.cuda.synchronize()
        self._began = time.perf_counter()

    def on_train_epoch_end(self, *arguments: Any) -> None:
        torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._began)


def alone(make: Callable[[], Any], batch: int, resident: bool, fast: bool, precision: Any = "32-true") -> float:
    """Seconds per step of one model in a Trainer."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=EPOCHS,
        limit_train_batches=STEPS,
        limit_val_batches=0,
        precision=precision,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if fast:
        speed_up(trainer)
    data = MNIST(batch_size=batch)
    if resident:
        trainer.fit(make(), datamodule=data)
    else:
        data.setup("fit")
        assert data.training_set is not None and data.train is not None
        images, labels = (tensor[data.train] for tensor in data.training_set)
        dataset = TensorDataset(*normalized(images, labels, torch.Generator()))
        loader = DataLoader(
            dataset, batch, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True, pin_memory=True
        )
        trainer.fit(make(), loader)
    return statistics.median(clock.seconds[1:]) / STEPS


def packed(make: Callable[[], Any], batch: int, count: int, whole: bool, graph: bool) -> float:
    """Seconds per step and model of `count` stacked models."""
    device = torch.device("cuda")
    models = [make().to(device).train() for _ in range(count)]
    optimizers = [torch.optim.Adam(model.parameters(), fused=True) for model in models]
    data = MNIST(batch_size=batch)
    data.setup("fit")
    assert data.training_set is not None
    data.training_set = tuple(tensor.to(device) for tensor in data.training_set)  # type: ignore[assignment]
    data._resident = lambda tensors: tensors  # type: ignore[method-assign]  # there is no Trainer that knows the device
    loaders = [data.train_dataloader() for _ in models]
    for model, optimizer, loader in zip(models, optimizers, loaders, strict=True):
        loss, _ = model.loss_and_outputs(next(iter(loader)))
        loss.backward()
        optimizer.step()
    stack = Stack(models)
    steps, steppers = StackedSteps(stack, optimizers), [stepper(optimizer) for optimizer in optimizers]
    steps.trouble = None if graph else "not asked for"  # then operations are launched individually
    seconds = []
    for _ in range(EPOCHS):
        passes = [iter(loader) for loader in loaders]
        for each in passes:
            next(each)
        torch.cuda.synchronize()
        began, done = time.perf_counter(), 0
        while done < STEPS:
            block = passes[0].upcoming(passes, 20)
            if whole:
                steps.begin()
            for step in range(20):
                one = tuple(tensor[step] for tensor in block)
                if whole:
                    steps.take(one)
                else:
                    _, outputs = stack.differentiate(one)
                    stack.hand_out()
                    for place, (model, take) in enumerate(zip(models, steppers, strict=True)):
                        take()
                        model.add_training(*(output[place] for output in outputs))
            if whole:
                steps.end()
            done += 20
            for each in passes:
                each.skip(20)
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / done / count)
    if graph:
        assert steps.trouble is None, steps.trouble
    return statistics.median(seconds[1:])


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; µs per step and model")
    print(f"| | {' | '.join(MODELS)} |\n{'|---' * (1 + len(MODELS))}|")
    ways: dict[str, Callable[[Callable[[], Any], int, int], float]] = {
        f"Lightning, DataLoader with {WORKERS} workers": lambda make, batch, _: alone(make, batch, False, False),
        "resident data": lambda make, batch, _: alone(make, batch, True, False),
        "resident data, bf16-mixed": lambda make, batch, _: alone(make, batch, True, False, "bf16-mixed"),
        "and the harness's loop: a trial by itself": lambda make, batch, _: alone(make, batch, True, True),
        "packed (64 MLPs, 16 CNNs), an optimizer each": lambda make, batch, n: packed(make, batch, n, False, False),
        "packed, one optimizer for all": lambda make, batch, n: packed(make, batch, n, True, False),
        "packed, and replayed as a CUDA graph": lambda make, batch, n: packed(make, batch, n, True, True),
    }
    for name, way in ways.items():
        figures = [f"{1e6 * way(make, batch, count):.1f}" for make, batch, count in MODELS.values()]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
