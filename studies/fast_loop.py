"""Lightning's training loop without its machinery, at the steps where nothing happens but training.

A step of a small model takes some 250 µs; what Lightning does around it (closures, profiler contexts, hooks that
nobody overrides, results that nobody logged) takes about as long again. At steps that neither log, validate nor
end anything, FastEpochLoop does the same things in the same order, and nothing else: the same calls of the
module and of the callbacks that listen, the same counters, the same bits. All other steps, and all steps of a
fit that is in any way special (several devices, mixed precision, manual optimization, accumulated gradients,
overridden optimizer hooks), are Lightning's own. tests/test_fast_loop.py compares the two.

It is written against the inside of Lightning 2.6, to which pyproject.toml holds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loops.fetchers import _PrefetchDataFetcher
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer import call
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

# Where one of these is overridden, something happens at a step that only Lightning itself knows how to do.
SPECIAL = (
    "on_train_batch_start",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)


def speed_up(trainer: Trainer) -> None:
    """Gives a Trainer, before its fit, the loop of this file."""
    usual = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = FastEpochLoop(trainer, usual.min_steps, usual.max_steps)


class FastEpochLoop(_TrainingEpochLoop):
    """Takes plain steps by itself and leaves the others to Lightning."""

    _step: Callable[[Any], None] | None = None

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        self._step = _plain_step(self) if _is_plain(self.trainer, data_fetcher) else None

    def advance(self, data_fetcher: Any) -> None:
        trainer, step = self.trainer, self._step
        # The first batch of an epoch, and of a fit that goes on, is Lightning's: it resets this and that.
        begun = trainer._logger_connector._first_loop_iter is not None
        if step is not None and begun and not (self.restarting or self._skip_next_val or trainer.should_stop):
            for _ in range(self._plain_steps(data_fetcher)):
                step(data_fetcher)
                if trainer.should_stop or trainer.received_sigterm:
                    trainer._logger_connector.update_train_step_metrics()
                    return
                self._batches_that_stepped += 1
        super().advance(data_fetcher)

    def _plain_steps(self, data_fetcher: Any) -> int:
        """How many steps from here on do nothing but train."""
        trainer: Any = self.trainer
        batches, all_batches, steps = (
            self.batch_progress.current.ready,
            self.batch_progress.total.ready,
            self.global_step,
        )
        left = [trainer.num_training_batches - batches - 1, data_fetcher.length - data_fetcher.fetched - 1]
        if trainer.log_every_n_steps:
            every = trainer.log_every_n_steps
            left += [_before(every, done) for done in (steps, all_batches, self._batches_that_stepped)]
        if self.max_steps != -1:
            left.append(self.max_steps - steps - 1)
        if self._should_check_val_epoch() and math.isfinite(trainer.val_check_batch):  # type: ignore[arg-type]
            done = all_batches if trainer.check_val_every_n_epoch is None else batches
            left.append(_before(int(trainer.val_check_batch), done))  # type: ignore[arg-type]
        return max(0, int(min(left)))


def _before(every: int, done: int) -> int:
    """Steps before the next that is an every-th one."""
    return every - 1 - done % every


def _is_plain(trainer: Any, data_fetcher: Any) -> bool:
    """Whether a fit is of the ordinary kind, whose plain steps are known here in all their parts."""
    module, datamodule = trainer.lightning_module, getattr(trainer, "datamodule", None)
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) is Precision
        and type(trainer.profiler) is PassThroughProfiler
        and type(data_fetcher) is _PrefetchDataFetcher
        and data_fetcher.length is not None
        and math.isfinite(trainer.num_training_batches)
        and trainer.model is module
        and module.automatic_optimization
        and trainer.accumulate_grad_batches == 1
        and trainer._val_check_time_interval is None
        and not trainer.fast_dev_run
        and not trainer.fit_loop.epoch_loop.automatic_optimization._skip_backward
        and all(_is_simple(optimizer) for optimizer in trainer.optimizers)
        and all(not config.reduce_on_plateau or config.interval != "step" for config in trainer.lr_scheduler_configs)
        and not any(_overrides(module, LightningModule, hook) for hook in SPECIAL)
        and not any(_overrides(datamodule, LightningDataModule, hook) for hook in SPECIAL[-3:])
    )


def _is_simple(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it computes the gradients exactly once, before anything else."""
    return type(optimizer).__module__.startswith("torch.optim.") and not isinstance(optimizer, torch.optim.LBFGS)


def _overrides(item: object, base: type, hook: str) -> bool:
    if item is None or not hasattr(base, hook):
        return False
    return hook in vars(item) or getattr(type(item), hook) is not getattr(base, hook)


def _listeners(trainer: Trainer, hook: str) -> Callable[..., None] | None:
    """Calls a hook of all callbacks that have it, then the module's; None if nobody listens."""
    module = trainer.lightning_module
    callbacks = [getattr(item, hook) for item in trainer.callbacks if _overrides(item, Callback, hook)]  # type: ignore[attr-defined]
    own = getattr(module, hook) if _overrides(module, LightningModule, hook) else None
    if not callbacks and own is None:
        return None

    def tell(*arguments: Any) -> None:
        before, module._current_fx_name = module._current_fx_name, hook
        for listener in callbacks:
            listener(trainer, module, *arguments)
        if own is not None:
            own(*arguments)
        module._current_fx_name = before

    return tell


def _plain_step(loop: FastEpochLoop) -> Callable[[Any], None]:
    """One step: what _TrainingEpochLoop.advance and _AutomaticOptimization.run do, less what does nothing here."""
    trainer, module = loop.trainer, loop.trainer.lightning_module
    connector, results = trainer._logger_connector, loop._results
    progress: Any = loop.batch_progress
    batches, all_batches = progress.current, progress.total
    progress = loop.automatic_optimization.optim_progress.optimizer
    steps, all_steps, zeros, all_zeros = (
        progress.step.current,
        progress.step.total,
        progress.zero_grad.current,
        progress.zero_grad.total,
    )
    (optimizer,) = trainer.optimizers
    device = trainer.strategy.root_device
    schedules: list[Any] = [config for config in trainer.lr_scheduler_configs if config.interval == "step"]
    clip, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    training_step = module.training_step
    wants_index = is_param_in_hook_signature(training_step, "batch_idx", min_args=2)
    hooks = ("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward")
    on_start, on_before_zero_grad, on_before_backward, on_after_backward = (_listeners(trainer, hook) for hook in hooks)
    on_before_step = _listeners(trainer, "on_before_optimizer_step")
    on_end = _listeners(trainer, "on_train_batch_end")

    def step(data_fetcher: Any) -> None:
        batch, _, _ = next(data_fetcher)
        if not _is_there(batch, device):
            batch = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
        batch_idx = batches.ready
        batches.ready += 1
        all_batches.ready += 1
        connector._first_loop_iter = False
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        if on_start is not None:
            on_start(batch, batch_idx)
        batches.started += 1
        all_batches.started += 1

        steps.ready += 1
        all_steps.ready += 1
        module._current_fx_name = "training_step"
        output = training_step(batch, batch_idx) if wants_index else training_step(batch)
        module._current_fx_name = None
        if type(output) is Tensor:
            loss: Tensor | None = output
            outputs = {"loss": output.detach()}
        else:
            result = ClosureResult.from_training_step_output(output)
            loss, outputs = result.closure_loss, result.asdict() if result.loss is not None else {}

        zeros.ready += 1
        all_zeros.ready += 1
        if on_before_zero_grad is not None:
            on_before_zero_grad(optimizer)
        zeros.started += 1
        all_zeros.started += 1
        optimizer.zero_grad()
        zeros.completed += 1
        all_zeros.completed += 1

        if loss is None:
            Closure.warning_cache.warn(
                "`training_step` returned `None`. If this was on purpose, ignore this warning..."
            )
        else:
            if on_before_backward is not None:
                on_before_backward(loss)
            loss.backward()
            if on_after_backward is not None:
                on_after_backward()
        if on_before_step is not None:
            on_before_step(optimizer)
        if clip:
            module.clip_gradients(optimizer, clip, algorithm)
        optimizer.step()
        steps.completed += 1
        all_steps.completed += 1

        batches.processed += 1
        all_batches.processed += 1
        for config in schedules:
            if (batch_idx + 1) % config.frequency == 0:
                loop.scheduler_progress.increment_ready()
                config.scheduler.step()
                loop.scheduler_progress.increment_completed()
        if on_end is not None:
            on_end(outputs, batch, batch_idx)
        results.batch, results.batch_size = None, None
        batches.completed += 1
        all_batches.completed += 1

    return step


def _is_there(batch: Any, device: torch.device) -> bool:
    """Whether a batch is nothing but tensors that are on the device already."""
    if type(batch) not in (tuple, list):
        return False
    return all(type(item) is Tensor and item.device == device for item in batch)
