"""Trainer options and callbacks for the fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateMonitor,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "max_steps": {"max_steps": 13, "max_epochs": -1},
    "val_check_quarter": {"val_check_interval": 0.25},
    "val_check_3": {"val_check_interval": 3},
    "val_check_across_epochs": {"val_check_interval": 7, "check_val_every_n_epoch": None, "max_epochs": 3},
    "val_every_second": {"check_val_every_n_epoch": 2},
    "limit_train_share": {"limit_train_batches": 0.4},
    "limit_train_6": {"limit_train_batches": 6},
    "no_validation": {"limit_val_batches": 0},
    "overfit": {"overfit_batches": 3},
    "reload": {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 3},
    "clip_norm": {"gradient_clip_val": 0.1},
    "clip_value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "accumulate": {"accumulate_grad_batches": 3},
    "anomaly": {"detect_anomaly": True},
    "profiler": {"profiler": "simple"},
    "bf16_mixed": {"precision": "bf16-mixed"},
    "bf16_true": {"precision": "bf16-true"},
    "float64": {"precision": "64-true"},
    "log_each": {"log_every_n_steps": 1},
    "log_rarely": {"log_every_n_steps": 50},
    "log_never": {"log_every_n_steps": 0},
    "min_steps": {"min_steps": 14, "max_epochs": 1},
    "sanity": {"num_sanity_val_steps": 2},
    "no_inference_mode": {"inference_mode": False},
    "deterministic": {"deterministic": True},
    "fast_dev_run": {"fast_dev_run": 3},
    "max_time": {"max_time": "00:00:01:00"},
    "no_logger": {"logger": False},
    "barebones": {
        "barebones": True,
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), None),
        **{"num_sanity_val_steps": None, "log_every_n_steps": None},
    },
}


class StopsAt(Callback):
    """Stops the fit after its ninth step."""

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 9


class ReadsMetrics(Callback):
    """Stores `callback_metrics` at the start and reads it later."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.metrics = trainer.callback_metrics

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.notes.append({name: float(value) for name, value in self.metrics.items()})


class LogsForTheModule(Callback):
    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        module.log("callback_start", float(batch_idx))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        module.log("callback_end", float(batch_idx), on_step=True, on_epoch=True)


class FinetunesTheEnd(BackboneFinetuning):
    """Only trains the last layer in the first epoch."""

    def on_fit_start(self, trainer: Any, module: Any) -> None: ...

    def freeze_before_training(self, module: Any) -> None:
        self.freeze(module.net[0])

    def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.make_trainable(module.net[0])


CALLBACKS: dict[str, Callable[[], Sequence[Callback]]] = {
    "stochastic_averaging": lambda: [StochasticWeightAveraging(1e-2, swa_epoch_start=1, annealing_epochs=1)],
    "ema": lambda: [EMAWeightAveraging(decay=0.9)],
    "averaging": lambda: [WeightAveraging(device=None, use_buffers=True)],
    "rates": lambda: [LearningRateMonitor(log_momentum=True)],
    "rates_each_step": lambda: [LearningRateMonitor("step", log_weight_decay=True)],
    "early_stopping": lambda: [EarlyStopping("val_loss", patience=0, min_delta=0.2)],
    "early_stopping_in_training": lambda: [EarlyStopping("loss_step", patience=0, check_on_train_epoch_end=True)],
    "timer": lambda: [Timer(duration="00:00:01:00", interval="step")],
    "accumulation": lambda: [GradientAccumulationScheduler({0: 1, 1: 2})],
    "finetuning": lambda: [FinetunesTheEnd()],
    "lambda": lambda: [LambdaCallback(on_before_optimizer_step=lambda *_: None)],
    "stops": lambda: [StopsAt()],
    "reads": lambda: [ReadsMetrics()],
    "logs": lambda: [LogsForTheModule()],
}
