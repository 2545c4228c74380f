"""Lightning's training loop without its overhead, for steps that do nothing but train.

A step of a small model takes about 250 µs; Lightning's work around it (closures, profiler contexts, hooks that are not
overridden, empty results) takes as long again. FastEpochLoop does the same things in the same order, and nothing else:
the same calls of the module and of listening callbacks, the same counters, bit-identical results; logging is left to
Lightning. test_epoch_loop.py and equality/ compare the two.

Whether a step can take this path is decided at that step, once its batch is loaded (`PlainStep.is_plain`), since a
module or callback may change anything within an epoch. If not, Lightning takes the step. Three parts of a step have an
even shorter path:

- If no hook of a step's parts is overridden, none is called (`_is_quiet`). Otherwise each is looked up when called.
- A known optimizer is stepped without PyTorch's Python code around its kernels (optimizer_step.py). Any other optimizer
  gets a closure, as from Lightning, so whatever its `step` does around it is done.
- If nothing was changed meanwhile, a step ends without further checks; otherwise as Lightning ends it.

Plain steps may also be taken for several trials at once (packed_trials.py): a loop with `batched_step` passes the plain
steps that come next to it instead of taking them.

Relies on internals of Lightning 2.6, the version pinned in pyproject.toml.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter, is_
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.core.optimizer import LightningOptimizer, do_nothing_closure
from pytorch_lightning.loops.fetchers import _PrefetchDataFetcher
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult
from pytorch_lightning.loops.optimization.closure import AbstractClosure
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer import call
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from pytorch_lightning.utilities.combined_loader import _MaxSizeCycle
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer, lr_scheduler
from torchmetrics import Metric

from studies.acceleration.training.optimizer_step import FusedAdam, backward, is_known
from studies.acceleration.training.replay import ReplayedModule, is_replayable

TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# If a module overrides one of these, Lightning takes the step.
SPECIAL = ("optimizer_step", *TRANSFER)
SPECIAL_HOOKS, TRANSFER_HOOKS = attrgetter(*SPECIAL), attrgetter(*TRANSFER)
MOVES = ("to", "_apply")  # methods of a torchmetrics object
START = "on_train_batch_start"
# Hooks after training_step, of callbacks and of the module.
PARTS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
END = "on_train_batch_end"
HEARD = (*PARTS, END)
DONE = ("optimizer_zero_grad", "backward", "configure_gradient_clipping", "clip_gradients", "lr_scheduler_step")

# Trainer attributes that decide how a step is taken and ended. If one is set during a step, Lightning ends the step.
SETTINGS = attrgetter(
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps", "should_stop"),
    *("val_check_batch", "check_val_every_n_epoch", "_val_check_time_interval", "limit_val_batches"),
    *("limit_train_batches", "fast_dev_run", "profiler"),
)

REPLAYS_PAY = 64  # remaining steps of an epoch from which replaying pays off: recording costs as much as a dozen

# (step, the loader's fetcher, number of plain steps ahead) -> number of steps taken; 0 means the caller must run one
# itself. The end of the last step taken is left to the loop, which may have to log it.
BatchedStep = Callable[["PlainStep", Any, int], int]


def speed_up(trainer: Trainer, batched_step: BatchedStep | None = None) -> None:
    """Installs this loop in a Trainer before its fit; `batched_step` may take plain steps in its place."""
    usual = trainer.fit_loop.epoch_loop
    loop = trainer.fit_loop.epoch_loop = FastEpochLoop(trainer, usual.min_steps, usual.max_steps)
    loop.batched_step = batched_step
    loop._results = _Results(training=True)
    loop.val_loop._results = _Results(training=False)


class FastEpochLoop(_TrainingEpochLoop):
    """Takes plain steps itself and leaves the others to Lightning."""

    batched_step: BatchedStep | None = None
    _replayed: ReplayedModule | None = None  # from an earlier epoch
    _step: PlainStep | None = None

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        self._step = self._new_step(data_fetcher)

    def _new_step(self, data_fetcher: Any) -> PlainStep | None:
        return PlainStep(self) if _is_ordinary(self.trainer, data_fetcher) else None

    def replayed(self, module: Any) -> ReplayedModule | None:
        """The replay of a module's steps; one from an earlier epoch is re-verified once.

        Returns:
            None if the steps turned out not to be replayable.
        """
        if self._replayed is None or not self._replayed.is_of(module):
            self._replayed = ReplayedModule(module)
        self._replayed.replay.invalidate()
        return None if self._replayed.replay.is_over else self._replayed

    def advance(self, data_fetcher: Any) -> None:
        """Takes steps until the end of one needs `on_advance_end`."""
        # Lightning takes the first batch of an epoch and of a resumed fit, since it resets state there.
        has_begun = self.trainer._logger_connector._first_loop_iter is not None
        if self._step is None or not has_begun or self.restarting or self._skip_next_val:
            super().advance(data_fetcher)
            return
        step = self._step
        while True:
            if self._take_together(step, data_fetcher):
                goes_on = step.end()
            else:
                item = next(data_fetcher)
                if data_fetcher.done or not step.is_plain(item[0]):
                    if not step.is_current():  # it may be plain again, e.g. with another optimizer
                        self._step = self._new_step(data_fetcher)
                    super().advance(_Fetched(item, data_fetcher))  # type: ignore[arg-type]
                    return
                step(item[0])
                goes_on = step.end()
            if not goes_on:
                return
            self._batches_that_stepped += 1

    def _take_together(self, step: PlainStep, data_fetcher: Any) -> bool:
        """Takes plain steps together with other trials, if possible; returns whether any were taken."""
        if self.batched_step is None or step.is_watched or not step.is_current():
            return False
        wanted = self._plain_steps(data_fetcher)
        taken = self.batched_step(step, data_fetcher, wanted) if wanted > 0 else 0
        self._batches_that_stepped += max(0, taken - 1)
        return taken > 0

    def _plain_steps(self, data_fetcher: Any) -> int:
        """Number of next steps that do nothing but train, except that the last may be logged."""
        trainer: Any = self.trainer
        batches, all_batches, steps = (
            self.batch_progress.current.ready,
            self.batch_progress.total.ready,
            self.global_step,
        )
        if data_fetcher.length is None:
            return 0
        left = [trainer.num_training_batches - batches - 1, data_fetcher.length - data_fetcher.fetched - 1]
        if self.max_steps != -1:
            left.append(self.max_steps - steps - 1)
        if self._should_check_val_epoch() and math.isfinite(trainer.val_check_batch):  # type: ignore[arg-type]
            done = all_batches if trainer.check_val_every_n_epoch is None else batches
            left.append(_before(int(trainer.val_check_batch), done))  # type: ignore[arg-type]
        every = trainer.log_every_n_steps
        if every:
            left += [_before(every, done) + 1 for done in (steps, all_batches, self._batches_that_stepped)]
        return max(0, int(min(left)))


class _Fetched:
    """A loader's fetcher whose next item has already been fetched."""

    def __init__(self, item: Any, fetcher: Any) -> None:
        self._item, self._fetcher = item, fetcher

    def __next__(self) -> Any:
        return self._item

    @property
    def done(self) -> bool:
        return bool(self._fetcher.done)


class _Results(_ResultCollection):
    """Logged values. At each logged value, Lightning moves its metric's contents to the value's device.

    Attributes:
        is_news: something was logged since this was set to False.
    """

    is_news = True

    def log(self, *arguments: Any, **options: Any) -> None:
        self.is_news = True
        super().log(*arguments, **options)

    def __setitem__(self, key: str, metric: _ResultMetric) -> None:
        if type(metric) is _ResultMetric:
            metric.__class__ = _Settled if metric.is_tensor else _SettledMetric
        super().__setitem__(key, metric)


class _Settled(_ResultMetric):
    """For plain values. Only moved if on another device, since traversing it takes 0.5 ms."""

    def to(self, *arguments: Any, **options: Any) -> _ResultMetric:  # type: ignore[override]
        if len(arguments) == 1 and not options and self.value.device == arguments[0]:
            return self
        return super().to(*arguments, **options)


class _SettledMetric(_ResultMetric):
    """For a user's torchmetrics object. Only moved if any part is on another device."""

    def to(self, *arguments: Any, **options: Any) -> _ResultMetric:  # type: ignore[override]
        metric = vars(self).get("value")
        if len(arguments) == 1 and not options and _is_settled(metric, arguments[0]) and _are_there(self, arguments[0]):
            return self
        return super().to(*arguments, **options)


def _is_settled(metric: Any, device: torch.device) -> bool:
    """Whether moving a torchmetrics object would change nothing: it only holds tensors on the device.

    A move recreates lists of tensors; children, weights and subclasses may have their own logic.
    """
    if not isinstance(metric, Metric):  # at the first value there is none yet
        return False
    fields = vars(metric)
    return (
        type(metric)._apply is Metric._apply
        and type(metric).to is Module.to
        and fields.keys().isdisjoint(MOVES)
        and not fields["_modules"]
        and not fields["_parameters"]
        and not fields["_buffers"]
        and fields["_device"] == device
        and fields["_dtype"] is torch.get_default_dtype()
        and all(type(default) is Tensor and default.device == device for default in fields["_defaults"].values())
        and all(
            type(state) is Tensor and state.device == device for state in map(fields.get, fields["_defaults"].keys())
        )
        and _are_there(metric, device)
    )


def _are_there(metric: Metric, device: torch.device) -> bool:
    """Whether a metric's computed value, if any, consists of tensors on the device."""
    kept = (metric._computed, metric._forward_cache)
    return all(value is None or (type(value) is Tensor and value.device == device) for value in kept)


def _before(every: int, done: int) -> int:
    """Number of steps before the next multiple of `every`."""
    return every - 1 - done % every


def _is_ordinary(trainer: Any, data_fetcher: Any) -> bool:
    """Whether the fit is of the ordinary kind whose plain steps this file implements."""
    module, datamodule, strategy = trainer.lightning_module, getattr(trainer, "datamodule", None), trainer.strategy
    return (
        type(strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) is Precision
        and type(trainer.profiler) is PassThroughProfiler
        and type(data_fetcher) is _PrefetchDataFetcher
        and trainer.model is module
        and module.automatic_optimization
        and trainer.accumulate_grad_batches == 1
        and trainer._val_check_time_interval is None
        and not trainer.fast_dev_run
        and not trainer.should_stop
        and not trainer.fit_loop.epoch_loop.automatic_optimization._skip_backward
        and len(trainer.optimizers) == 1
        and _is_wrapped_plainly(trainer.optimizers[0], strategy._lightning_optimizers)
        and not any(_overrides(module, LightningModule, hook) for hook in SPECIAL)
        and not any(_overrides(datamodule, LightningDataModule, hook) for hook in TRANSFER)
    )


def _is_wrapped_plainly(optimizer: Any, wrappers: list[Any]) -> bool:
    """Whether a LightningOptimizer does nothing but call the optimizer's step with the closure."""
    if len(wrappers) != 1 or wrappers[0]._optimizer is not optimizer or isinstance(optimizer, LightningOptimizer):
        return False
    (wrapper,) = wrappers
    return (
        type(wrapper).step is LightningOptimizer.step
        and "step" not in vars(wrapper)
        and wrapper._on_before_step is do_nothing_closure
        and wrapper._on_after_step is do_nothing_closure
    )


def _overrides(item: object, base: type, hook: str) -> bool:
    if item is None or not hasattr(base, hook):
        return False
    return hook in vars(item) or getattr(type(item), hook) is not getattr(base, hook)


class PlainStep:
    """One step: _TrainingEpochLoop.advance and _AutomaticOptimization.run without what has no effect here.

    Its parts are `begin`, `learn`, `step`, `finish` and `end`; if several trials step together, some are done
    elsewhere.

    Attributes:
        module: the LightningModule that is trained.
        optimizer: its only one.
        device: where it trains.
        is_watched: some hook of a step's parts is overridden, so it cannot be taken together.
    """

    def __init__(self, loop: FastEpochLoop) -> None:
        trainer: Any = loop.trainer
        self._loop, self._trainer, self._strategy = loop, trainer, trainer.strategy
        self.module: Any = trainer.lightning_module
        self._fields = vars(self.module)  # nn.Module.__setattr__ takes 3 µs
        (self.optimizer,) = trainer.optimizers
        self._wrappers = list(self._strategy._lightning_optimizers)
        self._fused = FusedAdam(self.optimizer) if is_known(self.optimizer) else None
        self._clears = getattr(type(self.optimizer), "zero_grad", None) is Optimizer.zero_grad
        self.device = self._strategy.root_device
        self._settings = SETTINGS(trainer)
        self._special = SPECIAL_HOOKS(type(self.module))
        self._datamodule = getattr(trainer, "datamodule", None)
        self._transfer = None if self._datamodule is None else TRANSFER_HOOKS(type(self._datamodule))
        self._validates = loop._should_check_val_epoch()

        self._connector = trainer._logger_connector
        self._results: Any = loop._results
        progress: Any = loop.batch_progress
        self._batches, self._all_batches = progress.current, progress.total
        progress = loop.automatic_optimization.optim_progress.optimizer
        self._steps, self._all_steps = progress.step.current, progress.step.total
        self._zeros, self._all_zeros = progress.zero_grad.current, progress.zero_grad.total

        self._training_step: Any = None  # as last called
        self._wants_index = True  # whether it takes the batch's index
        self._taken: tuple[Any, Any, int] | None = None  # outputs, batch and batch index of a step that has not ended
        self._hears_nothing = True  # no hook of this step's parts was called
        self._ends_as_before = True  # nothing was set that changes how it ends

        self._listeners = _Listeners(trainer, self.module)
        self._on_end_of_each = _end_of_each(trainer)
        self.is_watched = bool(self._listeners.of_callbacks or self._listeners.of_module)
        is_alone = loop.batched_step is None and self._listeners.are_none and self._on_end_of_each is None
        left = trainer.num_training_batches - self._batches.ready
        worth_it = is_alone and REPLAYS_PAY <= left < math.inf and is_replayable(self.module)
        self._replayed = loop.replayed(self.module) if worth_it else None

    def is_plain(self, batch: Any) -> bool:
        """Whether the next step, on this batch, can be taken here."""
        return (
            batch is not None
            and self.is_current()
            and self._batches.ready + 1 != self._trainer.fit_loop.max_batches  # the last one ends the epoch
        )

    def is_current(self) -> bool:
        """Whether the fit is still of the kind for which this object was created."""
        strategy, module, datamodule = self._strategy, self.module, self._datamodule
        optimizers, wrappers = strategy._optimizers, strategy._lightning_optimizers
        return (
            SETTINGS(self._trainer) == self._settings
            and self._trainer._accelerator_connector.strategy is strategy
            and type(strategy._precision_plugin) is Precision
            and len(optimizers) == 1
            and optimizers[0] is self.optimizer
            and wrappers == self._wrappers
            and strategy._lightning_module is module
            and strategy._model is module
            and module.automatic_optimization
            and not self._loop.automatic_optimization._skip_backward
            and self._fields.keys().isdisjoint(SPECIAL)
            and SPECIAL_HOOKS(type(module)) == self._special
            and (datamodule is None or vars(datamodule).keys().isdisjoint(TRANSFER))
            and (datamodule is None or TRANSFER_HOOKS(type(datamodule)) == self._transfer)
            and torch.is_grad_enabled()
        )

    def __call__(self, batch: Any) -> None:
        """Takes the step, except for its end."""
        batch, batch_idx, is_told = self._start(batch)
        if is_told and not self.is_current():
            self._finish_batch(self._optimize_as_lightning(batch, batch_idx), batch, batch_idx)
            return
        self._steps.ready += 1
        self._all_steps.ready += 1
        fused, fields = self._fused, self._fields
        before, fields["_current_fx_name"] = fields["_current_fx_name"], "optimizer_step"
        if fused is not None and fused.is_untouched():
            outputs = self.learn(batch, batch_idx)
            self.before_step()
            fused.take()
            self._count_step()
        else:
            closure = _StepClosure(self, batch, batch_idx)
            self.optimizer.step(closure=closure)
            self._count_step()
            outputs = _as_outputs(closure.consume_result())  # raises if the optimizer has not called it
            self._hears_nothing = self._hears_nothing and self._listeners.are_still_none()
        fields["_current_fx_name"] = before
        self._finish_batch(outputs, batch, batch_idx)

    def begin(self, data_fetcher: Any) -> tuple[Any, int]:
        """The next batch, on its device, and its index in the epoch."""
        batch, batch_idx, _ = self._start(next(data_fetcher)[0])
        self._steps.ready += 1
        self._all_steps.ready += 1
        return batch, batch_idx

    def _start(self, batch: Any) -> tuple[Any, int, bool]:
        """The batch on its device, its index, and whether a hook was called, which may have changed something."""
        if type(batch) is list and _is_there(batch, self.device):
            batch = list(batch)  # a copy, as in Lightning: changes do not affect the loader's batch
        elif not _is_there(batch, self.device):
            batch = call._call_strategy_hook(self._trainer, "batch_to_device", batch, dataloader_idx=0)
        batches, all_batches = self._batches, self._all_batches
        batch_idx = batches.ready
        batches.ready += 1
        all_batches.ready += 1
        self._connector._first_loop_iter = False
        results = self._results
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        is_told = self._tell_of_start(batch, batch_idx)
        batches.started += 1
        all_batches.started += 1
        return batch, batch_idx, is_told

    def _tell_of_start(self, batch: Any, batch_idx: int) -> bool:
        trainer, module, fields, loop = self._trainer, self.module, self._fields, self._loop
        before, fields["_current_fx_name"] = fields["_current_fx_name"], START
        is_told, response = False, None
        for callback in trainer.callbacks:
            listener = callback.on_train_batch_start
            if callable(listener) and getattr(listener, "__func__", None) is not Callback.on_train_batch_start:
                listener(trainer, module, batch, batch_idx)
                is_told = True
        listener = module.on_train_batch_start
        if callable(listener) and getattr(listener, "__func__", None) is not LightningModule.on_train_batch_start:
            response = listener(batch, batch_idx)
            is_told = True
        fields["_current_fx_name"] = before
        if response == -1:  # skip the rest of the epoch
            loop.batch_progress.increment_by(0, is_last_batch=True)
            loop.batch_progress.increment_processed()
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if loop._num_ready_batches_reached():
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
            raise StopIteration
        return is_told

    def _optimize_as_lightning(self, batch: Any, batch_idx: int) -> Any:
        """Lightning's own code between a batch's start and end, for when a start hook changed something."""
        self._hears_nothing = False
        kwargs = self._loop._build_kwargs(OrderedDict(), batch, batch_idx)
        if self.module.automatic_optimization:
            return self._loop.automatic_optimization.run(self._trainer.optimizers[0], batch_idx, kwargs)
        return self._loop.manual_optimization.run(kwargs)

    def learn(self, batch: Any, batch_idx: int) -> Any:
        """Computes the gradients and returns the outputs for callbacks."""
        if self._replayed is not None and self._listeners.are_none_by_themselves():
            replayed = self._replayed(batch)
            if replayed is not None:
                self._hears_nothing = True
                self.adopt()
                return {"loss": replayed}
        try:
            return _as_outputs(self.differentiate(batch, batch_idx))
        finally:
            if not torch.is_grad_enabled():  # the step has disabled it
                torch._C._set_grad_enabled(True)

    def differentiate(self, batch: Any, batch_idx: int) -> Any:
        """Calls the training step, clears the gradients and computes them: what Lightning's Closure does.

        Returns:
            A ClosureResult, or just the loss if no hook needs it.
        """
        module, fields, trainer = self.module, self._fields, self._trainer
        before = fields["_current_fx_name"]
        training_step = module.training_step
        if training_step != self._training_step:
            self._training_step = training_step
            self._wants_index = is_param_in_hook_signature(training_step, "batch_idx", min_args=2)
        fields["_current_fx_name"] = "training_step"
        output = training_step(batch, batch_idx) if self._wants_index else training_step(batch)
        fields["_current_fx_name"] = before

        quiet = self._hears_nothing = self._listeners.are_still_none()
        if type(output) is Tensor and quiet and trainer.accumulate_grad_batches == 1 and torch.is_grad_enabled():
            # Lightning divides by 1 and clones, which is not observable here.
            loss: Tensor | None = output
            result: Any = output
        else:
            result = ClosureResult.from_training_step_output(output, trainer.accumulate_grad_batches)
            loss = result.closure_loss
        if loss is None:
            Closure.warning_cache.warn(
                "`training_step` returned `None`. If this was on purpose, ignore this warning..."
            )
        self._clear_gradients(batch_idx)
        if loss is not None:
            fields["_current_fx_name"] = "backward"
            if not quiet:
                self._tell("on_before_backward", loss)
            if quiet or not _overrides(module, LightningModule, "backward"):
                backward(loss)
            else:
                module.backward(loss)
            # Tensor and parameter hooks are user code, too.
            quiet = self._hears_nothing = quiet and self._listeners.are_still_none()
            if not quiet:
                self._tell("on_after_backward")
            fields["_current_fx_name"] = before
        return result

    def _clear_gradients(self, batch_idx: int) -> None:
        zeros, all_zeros = self._zeros, self._all_zeros
        zeros.ready += 1
        all_zeros.ready += 1
        if not self._hears_nothing:
            self._tell("on_before_zero_grad", self.optimizer)
        zeros.started += 1
        all_zeros.started += 1
        if not self._hears_nothing:
            epoch = self._trainer.current_epoch
            self._have_done("optimizer_zero_grad", epoch, batch_idx, self.optimizer)
        elif self._clears and "zero_grad" not in vars(self.optimizer):
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            self.optimizer.zero_grad()
        zeros.completed += 1
        all_zeros.completed += 1

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped or otherwise modified before the step."""
        return bool(self._trainer.gradient_clip_val)

    def step(self) -> None:
        """Takes the optimizer step with the present gradients."""
        self.before_step()
        if self._fused is not None:
            self._fused.step()
        else:
            self.optimizer.step()

    def before_step(self) -> None:
        """Does what comes between the gradients and the optimizer step."""
        trainer, module = self._trainer, self.module
        if not self._hears_nothing:
            self._tell("on_before_optimizer_step", self.optimizer)
        value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        if self._hears_nothing and value is None and algorithm is None:
            return
        if module.automatic_optimization:
            self._have_done(
                "configure_gradient_clipping",
                self.optimizer,
                gradient_clip_val=value,
                gradient_clip_algorithm=algorithm,
            )

    def finish(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the step, and finishes the batch."""
        self._count_step()
        self._finish_batch(outputs, batch, batch_idx)

    def _count_step(self) -> None:
        self._steps.completed += 1
        self._all_steps.completed += 1

    def _finish_batch(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._batches.processed += 1
        self._all_batches.processed += 1
        self._ends_as_before = self._is_as_before()
        if self._ends_as_before:
            self.update_schedules(batch_idx)
        else:
            self._loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._loop._num_ready_batches_reached():
                self._loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._taken = (outputs, batch, batch_idx)

    def update_schedules(self, batch_idx: int) -> None:
        for config in self._strategy.lr_scheduler_configs:
            if config.reduce_on_plateau or config.interval != "step" or (batch_idx + 1) % config.frequency:
                continue
            self._loop.scheduler_progress.increment_ready()
            self._have_done("lr_scheduler_step", config.scheduler, None)
            self._loop.scheduler_progress.increment_completed()
            if type(config.scheduler).__module__ != lr_scheduler.__name__:  # a user's class
                self._hears_nothing = self._hears_nothing and self._listeners.are_still_none()
                self._ends_as_before = self._is_as_before()

    @property
    def is_scheduled(self) -> bool:
        """Whether learning rates may change from step to step."""
        return any(config.interval == "step" for config in self._strategy.lr_scheduler_configs)

    @property
    def is_silent(self) -> bool:
        """Whether no hook needs to be called at unlogged steps."""
        return self._on_end_of_each is None

    @property
    def next_index(self) -> int:
        """Index of the next batch in its epoch."""
        return int(self._batches.ready)

    def skip(self, data_fetcher: Any, count: int, loss: Tensor, batch: Any) -> None:
        """Accounts for `count` steps taken elsewhere, except for schedules and the end of the last step.

        Args:
            loss: of the last step.
            batch: of the last step.
        """
        source = batches_of(data_fetcher)
        assert source is not None
        source.skip(count)
        data_fetcher.combined_loader._iterator._idx += count
        data_fetcher.fetched += count
        for batches in (self._batches, self._all_batches):
            batches.ready += count
            batches.started += count
            batches.processed += count
            batches.completed += count - 1
        for steps in (self._steps, self._all_steps):
            steps.ready += count
            steps.completed += count
        for zeros in (self._zeros, self._all_zeros):
            zeros.ready += count
            zeros.started += count
            zeros.completed += count
        self._connector._first_loop_iter = False
        results = self._results
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        self._taken = ({"loss": loss}, batch, self._batches.ready - 1)
        self._hears_nothing, self._ends_as_before = True, self._is_as_before()

    def end(self) -> bool:
        """Calls the end hooks, unless `end_quietly` did, and logs the step if due.

        Returns:
            Whether nothing else has to be done before the next step.
        """
        if self._taken is None:
            return self._continues()
        steps_that_logged = self._loop._batches_that_stepped + 1
        every = self._trainer.log_every_n_steps
        as_before = self._ends_as_before
        if not self._hears_nothing or self._is_due(every, steps_that_logged):
            self._tell("on_train_batch_end", *self._taken)
            as_before = self._is_as_before()
        elif self._on_end_of_each is not None:
            self._on_end_of_each(*self._taken)
            as_before = self._is_as_before()
        if self._results.is_news or not as_before:
            self._connector.on_batch_end()
            self._results.is_news = False
        self._complete()
        if not as_before or (every and steps_that_logged % every == 0):
            self._connector.update_train_step_metrics()
        return as_before and self._continues()

    def end_quietly(self) -> None:
        """Only calls the hooks that need every step."""
        assert self._taken is not None
        if self._on_end_of_each is not None:
            self._on_end_of_each(*self._taken)
        self._complete()

    def _complete(self) -> None:
        self._results.batch, self._results.batch_size = None, None
        self._batches.completed += 1
        self._all_batches.completed += 1
        self._taken = None

    def adopt(self) -> None:
        """Updates the counters of `learn` when gradients were computed elsewhere."""
        for zeros in (self._zeros, self._all_zeros):
            zeros.ready += 1
            zeros.started += 1
            zeros.completed += 1

    def _is_as_before(self) -> bool:
        """Whether nothing was set during this step that changes how it ends."""
        return bool(SETTINGS(self._trainer) == self._settings and self.module.automatic_optimization)

    def _continues(self) -> bool:
        """Whether `on_advance_end` would only count: no validation, no schedule, no end of the fit."""
        trainer, loop = self._trainer, self._loop
        if trainer._signal_connector.received_sigterm or trainer.should_stop:
            return False
        if loop.max_steps != -1 and self._all_steps.completed >= loop.max_steps:
            return False
        if self._validates and self._is_validation_due():
            return False
        return not any(
            config.reduce_on_plateau and config.interval == "step" for config in self._strategy.lr_scheduler_configs
        )

    def _is_validation_due(self) -> bool:
        trainer, batches = self._trainer, self._batches.ready
        every = trainer.val_check_batch
        if every == math.inf:
            return isinstance(trainer.limit_train_batches, int) and batches % trainer.limit_train_batches == 0
        done = self._all_batches.ready if trainer.check_val_every_n_epoch is None else batches
        return bool(done % every == 0)

    def _is_due(self, every: int, steps_that_logged: int) -> bool:
        """Whether hooks that may skip unlogged steps must be called at this step."""
        listeners = self._listeners
        if not listeners.poll:
            return False
        if every and not (
            steps_that_logged % every and self._all_steps.completed % every and self._all_batches.ready % every
        ):
            return True
        return self._trainer.should_stop or any(poll() for poll in listeners.polled)

    def _tell(self, hook: str, *arguments: Any) -> None:
        """Calls a hook of all callbacks, then of the module, looked up now."""
        self._tell_callbacks(hook, *arguments)
        self._have_done(hook, *arguments)

    def _tell_callbacks(self, hook: str, *arguments: Any) -> None:
        trainer, module, fields = self._trainer, self.module, self._fields
        before, fields["_current_fx_name"] = fields["_current_fx_name"], hook
        for callback in trainer.callbacks:
            listener = getattr(callback, hook)
            if callable(listener):
                listener(trainer, module, *arguments)
        fields["_current_fx_name"] = before

    def _have_done(self, hook: str, *arguments: Any, **options: Any) -> None:
        """Calls a hook of the module."""
        fields = self._fields
        listener = getattr(self.module, hook)
        if callable(listener):
            before, fields["_current_fx_name"] = fields["_current_fx_name"], hook
            listener(*arguments, **options)
            fields["_current_fx_name"] = before


def _as_outputs(result: Any) -> Any:
    """The outputs that callbacks receive for a step."""
    if type(result) is Tensor:
        return {"loss": result.detach()}
    return {} if result.loss is None else result.asdict()


class _StepClosure(AbstractClosure[Any]):
    """The closure for an optimizer: Lightning's Closure with the Precision plugin's wrapping."""

    def __init__(self, step: PlainStep, batch: Any, batch_idx: int) -> None:
        super().__init__()
        self._arguments = (batch, batch_idx)
        self._step = step

    def closure(self, *args: Any, **kwargs: Any) -> ClosureResult:
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(True)
        try:
            result = self._step.differentiate(*self._arguments)
        finally:
            torch._C._set_grad_enabled(before)
        return ClosureResult(result) if type(result) is Tensor else result

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor | None:
        self._result = self.closure(*args, **kwargs)
        loss = self._result.loss
        self._step.before_step()
        return loss


class _Listeners:
    """The listeners to the parts of a step, and whether they have changed.

    Every callback is called at the end of a logged step. A callback with a method `wants_unlogged_steps` is called at
    the end of another step only if that returns True; a module whose on_train_batch_end has the attribute
    `wants_unlogged_steps = False`, never.

    Attributes:
        of_callbacks: some callback listens.
        of_module: the module listens to more than a step's end, or overrides one of its parts.
        are_none: no one listens, except the module to a step's end.
        poll: some callback or the module can skip unlogged steps.
        polled: those callbacks' `wants_unlogged_steps`.
    """

    def __init__(self, trainer: Any, module: Any) -> None:
        self._trainer, self._module = trainer, module
        self._callbacks = list(trainer.callbacks)
        polling = [callback for callback in self._callbacks if hasattr(callback, "wants_unlogged_steps")]
        self.of_callbacks = any(_overrides(callback, Callback, START) for callback in self._callbacks)
        self.of_callbacks |= any(_overrides(item, Callback, hook) for item in self._callbacks for hook in PARTS)
        self.of_callbacks |= any(
            _overrides(item, Callback, END) for item in self._callbacks if not hasattr(item, "wants_unlogged_steps")
        )
        self.of_module = any(_overrides(module, LightningModule, hook) for hook in (START, *PARTS, *DONE))
        own_end_polls = not getattr(getattr(module, END), "wants_unlogged_steps", True)
        self.are_none = not (self.of_callbacks or self.of_module)
        if _overrides(module, LightningModule, END) and not own_end_polls:
            self.are_none = False
        self.polled: list[Callable[[], bool]] = [callback.wants_unlogged_steps for callback in polling]
        self.poll = bool(polling) or own_end_polls
        self._fields = vars(module)
        self._fields_of_callbacks = [vars(callback) for callback in self._callbacks]
        self._classes = [type(callback) for callback in self._callbacks]
        self._functions = self._functions_now()

    def are_still_none(self) -> bool:
        """Whether there were no listeners, and there still are none."""
        return self.are_none_by_themselves() and self._functions_now() == self._functions

    def are_none_by_themselves(self) -> bool:
        """Like `are_still_none`, but ignores hooks set on classes: sufficient if no user code has run since a full
        check."""
        return (
            self.are_none
            and len(self._trainer.callbacks) == len(self._callbacks)
            and all(map(is_, self._trainer.callbacks, self._callbacks))
            and self._fields.keys().isdisjoint(HEARD_OR_DONE)
            and all(map(HEARD_SET.isdisjoint, self._fields_of_callbacks))
        )

    def _functions_now(self) -> list[Any]:
        """The hooks of all classes, where they may be replaced, too."""
        return [CLASS_HOOKS(type(self._module)), *map(CALLBACK_HOOKS, self._classes)]


HEARD_SET, HEARD_OR_DONE = frozenset(HEARD), frozenset((*HEARD, *DONE))
CLASS_HOOKS, CALLBACK_HOOKS = attrgetter(*HEARD, *DONE), attrgetter(*HEARD)


def _end_of_each(trainer: Any) -> Callable[..., None] | None:
    """A function that calls the module's end hook at every step; None if it does not need that."""
    module, hook = trainer.lightning_module, END
    own = getattr(module, hook) if _overrides(module, LightningModule, hook) else None
    if own is None or not getattr(own, "wants_unlogged_steps", True):
        return None
    fields = vars(module)

    def tell(*arguments: Any) -> None:
        before, fields["_current_fx_name"] = fields["_current_fx_name"], hook
        own(*arguments)
        fields["_current_fx_name"] = before

    return tell


def batches_of(data_fetcher: Any) -> Any:
    """The pass over a loader's batches in a fit, if it can provide several at once; else None."""
    cycle = data_fetcher.combined_loader._iterator
    if type(cycle) is not _MaxSizeCycle or len(cycle.iterators) != 1 or data_fetcher.batches:
        return None
    (source,) = cycle.iterators
    return source if hasattr(source, "upcoming") and hasattr(source, "skip") else None


def _is_there(batch: Any, device: torch.device) -> bool:
    """Whether a batch consists only of tensors already on the device."""
    if type(batch) not in (tuple, list):
        return False
    return all(type(item) is Tensor and item.device == device for item in batch)
