"""Lightning's training loop without its machinery, at the steps where nothing happens but training.

A step of a small model takes some 250 µs; what Lightning does around it (closures, profiler contexts, hooks that
nobody overrides, results that nobody logged) takes about as long again. At steps that neither validate nor
end anything, FastEpochLoop does the same things in the same order, and nothing else: the same calls of the
module and of the callbacks that listen, the same counters, the same bits; what is to be logged of such a step it
has Lightning log. All other steps, and all steps of a fit that is in any way special (several devices, mixed
precision, manual optimization, accumulated gradients, overridden optimizer hooks), are Lightning's own.
tests/test_fast_loop.py compares the two.

Such steps may also be taken for several trials at once (studies/pack.py): a loop that is given `together` offers
it the plain steps that come next, in place of taking them itself.

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
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from pytorch_lightning.utilities.combined_loader import _MaxSizeCycle
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from studies.fast_step import backward, stepper
from studies.replay import ReplayedModule, is_replayable

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

REPLAYS_PAY = 64  # steps left in an epoch: to record some takes as long as a dozen

# (the step, the loader's fetcher, how many plain steps come next) -> how many were taken; 0: take one yourself.
# The end of the last one taken is left to the loop, which may have to log it.
Together = Callable[["PlainStep", Any, int], int]


def speed_up(trainer: Trainer, together: Together | None = None) -> None:
    """Gives a Trainer, before its fit, the loop of this file; `together` may take plain steps in its place."""
    usual = trainer.fit_loop.epoch_loop
    loop = trainer.fit_loop.epoch_loop = FastEpochLoop(trainer, usual.min_steps, usual.max_steps)
    loop.together = together
    loop._results = _Results(training=True)
    loop.val_loop._results = _Results(training=False)


class FastEpochLoop(_TrainingEpochLoop):
    """Takes plain steps by itself and leaves the others to Lightning."""

    together: Together | None = None
    _replayed: ReplayedModule | None = None  # of an epoch before
    _step: PlainStep | None = None

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        self._step = PlainStep(self) if _is_plain(self.trainer, data_fetcher) else None

    def replayed(self, module: Any) -> ReplayedModule | None:
        """What replays a module's steps from here on: what did so before, which looks once whether it still may.

        Returns:
            None: they have turned out not to be replayable.
        """
        if self._replayed is None or not self._replayed.is_of(module):
            self._replayed = ReplayedModule(module)
        self._replayed.replay.doubt()
        return None if self._replayed.replay.is_over else self._replayed

    def advance(self, data_fetcher: Any) -> None:
        trainer, step = self.trainer, self._step
        # The first batch of an epoch, and of a fit that goes on, is Lightning's: it resets this and that.
        begun = trainer._logger_connector._first_loop_iter is not None
        if step is not None and begun and not (self.restarting or self._skip_next_val or trainer.should_stop):
            together = None if step.is_watched else self.together
            wanted, logs = self._plain_steps(data_fetcher)
            while wanted > 0:
                taken = together(step, data_fetcher, wanted) if together is not None else 0
                if not taken:
                    step(data_fetcher)
                    taken = 1
                wanted -= taken
                self._batches_that_stepped += taken - 1
                is_logged = logs and wanted == 0
                step.end(is_logged)
                if trainer.should_stop or trainer.received_sigterm:
                    if not is_logged:
                        trainer._logger_connector.update_train_step_metrics()
                    return
                self._batches_that_stepped += 1
                if wanted == 0:
                    wanted, logs = self._plain_steps(data_fetcher)
        super().advance(data_fetcher)

    def _plain_steps(self, data_fetcher: Any) -> tuple[int, bool]:
        """How many steps from here on do nothing but train, and whether the last of them is logged, no other being."""
        trainer: Any = self.trainer
        batches, all_batches, steps = (
            self.batch_progress.current.ready,
            self.batch_progress.total.ready,
            self.global_step,
        )
        left = [trainer.num_training_batches - batches - 1, data_fetcher.length - data_fetcher.fetched - 1]
        if self.max_steps != -1:
            left.append(self.max_steps - steps - 1)
        if self._should_check_val_epoch() and math.isfinite(trainer.val_check_batch):  # type: ignore[arg-type]
            done = all_batches if trainer.check_val_every_n_epoch is None else batches
            left.append(_before(int(trainer.val_check_batch), done))  # type: ignore[arg-type]
        count = max(0, int(min(left)))
        every = trainer.log_every_n_steps
        if not every:
            return count, False
        before_log = min(_before(every, done) for done in (steps, all_batches, self._batches_that_stepped))
        return min(before_log + 1, count), before_log < count


class _Results(_ResultCollection):
    """Logged values. Each time one is logged Lightning moves all its metric holds to where the value is."""

    def __setitem__(self, key: str, metric: _ResultMetric) -> None:
        metric.__class__ = _Settled
        super().__setitem__(key, metric)


class _Settled(_ResultMetric):
    """Is moved only where it is not there yet: to walk through it takes half a millisecond."""

    def to(self, device: torch.device) -> _ResultMetric:  # type: ignore[override]
        return self if self.value.device == device else super().to(device)


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


def _listeners(trainer: Trainer, hook: str, polls: bool = True) -> Callable[..., None] | None:
    """Calls a hook of all callbacks that have it, then the module's; None if nobody listens.

    Args:
        polls: of those too that need not hear of every step: a callback with a method `polls`, which says whether
            it wants to hear of this one (of logged ones it hears), or the module's hook with an attribute `polls`.
    """
    module = trainer.lightning_module
    listening = [item for item in trainer.callbacks if _overrides(item, Callback, hook)]  # type: ignore[attr-defined]
    callbacks = [getattr(item, hook) for item in listening if polls or not getattr(item, "polls", False)]
    own = getattr(module, hook) if _overrides(module, LightningModule, hook) else None
    if not polls and getattr(own, "polls", False):
        own = None
    if not callbacks and own is None:
        return None
    fields = vars(module)

    def tell(*arguments: Any) -> None:
        before, fields["_current_fx_name"] = module._current_fx_name, hook
        for listener in callbacks:
            listener(trainer, module, *arguments)
        if own is not None:
            own(*arguments)
        fields["_current_fx_name"] = before

    return tell


class PlainStep:
    """One step: what _TrainingEpochLoop.advance and _AutomaticOptimization.run do, less what does nothing here.

    In parts, some of which are another's where several trials take it at once.

    Attributes:
        module: the LightningModule that is trained.
        optimizer: its only one.
        device: where it trains.
        is_watched: somebody wants to hear of each step's parts, and so it cannot be taken together.
    """

    def __init__(self, loop: FastEpochLoop) -> None:
        trainer = loop.trainer
        self.module: Any = trainer.lightning_module
        (self.optimizer,) = trainer.optimizers
        self._take_step = stepper(self.optimizer)
        self._loop, self._trainer = loop, trainer
        self._connector, self._results = trainer._logger_connector, loop._results
        progress: Any = loop.batch_progress
        self._batches, self._all_batches = progress.current, progress.total
        progress = loop.automatic_optimization.optim_progress.optimizer
        self._steps, self._all_steps = progress.step.current, progress.step.total
        self._zeros, self._all_zeros = progress.zero_grad.current, progress.zero_grad.total
        self.device = trainer.strategy.root_device
        self._schedules: list[Any] = [config for config in trainer.lr_scheduler_configs if config.interval == "step"]
        self._clip, self._algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        self._wants_index = is_param_in_hook_signature(self.module.training_step, "batch_idx", min_args=2)
        self._on_start = _listeners(trainer, "on_train_batch_start")
        self._on_before_zero_grad = _listeners(trainer, "on_before_zero_grad")
        self._on_before_backward = _listeners(trainer, "on_before_backward")
        self._on_after_backward = _listeners(trainer, "on_after_backward")
        self._on_before_step = _listeners(trainer, "on_before_optimizer_step")
        self._on_end = _listeners(trainer, "on_train_batch_end")
        self._on_end_of_each = _listeners(trainer, "on_train_batch_end", polls=False)
        # Whether there is reason to tell those who need not hear of every step.
        polled = [callback.polls for callback in trainer.callbacks if hasattr(callback, "polls")]  # type: ignore[attr-defined]
        self._is_due: Callable[[], bool] = lambda: trainer.should_stop or any(poll() for poll in polled)
        self._taken: tuple[Any, Any, int] | None = None  # outputs, batch and its index, of a step that has not ended
        watched = (self._on_before_zero_grad, self._on_before_backward, self._on_after_backward, self._on_before_step)
        callbacks = (callback for callback in trainer.callbacks if not getattr(callback, "polls", False))  # type: ignore[attr-defined]
        self.is_watched = any(hook is not None for hook in (self._on_start, *watched)) or any(
            _overrides(callback, Callback, "on_train_batch_end") for callback in callbacks
        )

        is_alone = loop.together is None and not self.is_watched and self._on_end_of_each is None
        left = trainer.num_training_batches - self._batches.ready
        worth_it = is_alone and left >= REPLAYS_PAY and is_replayable(self.module)
        self._replayed = loop.replayed(self.module) if worth_it else None

    def __call__(self, data_fetcher: Any) -> None:
        """All but its end."""
        batch, batch_idx = self.begin(data_fetcher)
        outputs = self.learn(batch, batch_idx)
        self.step()
        self.finish(outputs, batch, batch_idx)

    def begin(self, data_fetcher: Any) -> tuple[Any, int]:
        """The next batch, on its device, and its index in the epoch."""
        batch, _, _ = next(data_fetcher)
        if not _is_there(batch, self.device):
            batch = call._call_strategy_hook(self._trainer, "batch_to_device", batch, dataloader_idx=0)
        batches, all_batches = self._batches, self._all_batches
        batch_idx = batches.ready
        batches.ready += 1
        all_batches.ready += 1
        self._connector._first_loop_iter = False
        results = self._results
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        if self._on_start is not None:
            self._on_start(batch, batch_idx)
        batches.started += 1
        all_batches.started += 1
        self._steps.ready += 1
        self._all_steps.ready += 1
        return batch, batch_idx

    def learn(self, batch: Any, batch_idx: int) -> Any:
        """Computes the gradients, and returns what callbacks are told of it."""
        module = self.module
        fields = vars(module)  # to set it as an attribute takes nn.Module 3 µs
        fields["_current_fx_name"] = "training_step"
        if self._replayed is not None:
            replayed = self._replayed(batch)
            if replayed is not None:
                fields["_current_fx_name"] = None
                self.adopt()
                return {"loss": replayed}
        output = module.training_step(batch, batch_idx) if self._wants_index else module.training_step(batch)
        fields["_current_fx_name"] = None
        if type(output) is Tensor:
            loss: Tensor | None = output
            outputs = {"loss": output.detach()}
        else:
            result = ClosureResult.from_training_step_output(output)
            loss, outputs = result.closure_loss, result.asdict() if result.loss is not None else {}
        zeros, all_zeros = self._zeros, self._all_zeros
        zeros.ready += 1
        all_zeros.ready += 1
        if self._on_before_zero_grad is not None:
            self._on_before_zero_grad(self.optimizer)
        zeros.started += 1
        all_zeros.started += 1
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        zeros.completed += 1
        all_zeros.completed += 1
        if loss is None:
            Closure.warning_cache.warn(
                "`training_step` returned `None`. If this was on purpose, ignore this warning..."
            )
        else:
            if self._on_before_backward is not None:
                self._on_before_backward(loss)
            backward(loss)
            if self._on_after_backward is not None:
                self._on_after_backward()
        return outputs

    @property
    def clips(self) -> bool:
        """Whether it does more with its gradients than to go along them."""
        return bool(self._clip)

    def step(self) -> None:
        """Goes along the gradients that are there."""
        if self._on_before_step is not None:
            self._on_before_step(self.optimizer)
        if self._clip:
            self.module.clip_gradients(self.optimizer, self._clip, self._algorithm)
        self._take_step()

    def finish(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Notes that the step was taken."""
        self._steps.completed += 1
        self._all_steps.completed += 1
        self._batches.processed += 1
        self._all_batches.processed += 1
        self.go_on_with_schedules(batch_idx)
        self._taken = (outputs, batch, batch_idx)

    def go_on_with_schedules(self, batch_idx: int) -> None:
        for config in self._schedules:
            if (batch_idx + 1) % config.frequency == 0:
                self._loop.scheduler_progress.increment_ready()
                config.scheduler.step()
                self._loop.scheduler_progress.increment_completed()

    @property
    def is_scheduled(self) -> bool:
        """Whether learning rates may change from step to step."""
        return bool(self._schedules)

    @property
    def is_silent(self) -> bool:
        """Whether nobody has to hear of a step that is not logged."""
        return self._on_end_of_each is None

    @property
    def next_index(self) -> int:
        """Of the next batch in its epoch."""
        return int(self._batches.ready)

    def skip(self, data_fetcher: Any, count: int, loss: Tensor, batch: Any) -> None:
        """Counts so many steps that another took for it, schedules apart, all but the end of the last.

        Args:
            loss: of the last.
            batch: of the last.
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

    def end(self, is_logged: bool) -> None:
        """Tells of a step that was taken, unless `end_quietly` has."""
        if self._taken is None:
            return
        if not (is_logged or self._on_end_of_each is not None or self._is_due()):
            self._complete()
            return
        if self._on_end is not None:
            self._on_end(*self._taken)
        if is_logged:
            self._connector.on_batch_end()
        self._complete()
        if is_logged:
            self._connector.update_train_step_metrics()

    def end_quietly(self) -> None:
        """Tells of it only those who want to hear of every step."""
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
        """Counts what `learn` counts, where the gradients are another's work."""
        for zeros in (self._zeros, self._all_zeros):
            zeros.ready += 1
            zeros.started += 1
            zeros.completed += 1


def batches_of(data_fetcher: Any) -> Any:
    """The pass over a loader's batches that a fit reads, where it can show several at once; else None."""
    cycle = data_fetcher.combined_loader._iterator
    if type(cycle) is not _MaxSizeCycle or len(cycle.iterators) != 1 or data_fetcher.batches:
        return None
    (source,) = cycle.iterators
    return source if hasattr(source, "upcoming") and hasattr(source, "skip") else None


def _is_there(batch: Any, device: torch.device) -> bool:
    """Whether a batch is nothing but tensors that are on the device already."""
    if type(batch) not in (tuple, list):
        return False
    return all(type(item) is Tensor and item.device == device for item in batch)
