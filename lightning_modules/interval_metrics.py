"""Metrics per logging interval, from sums that stay on the device."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

KEPT, KEPT_NUMBERS = 64, 2**21  # batches, and numbers, after which buffered outputs are summed


def only_at_logged_steps(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Marks an `on_train_batch_end` that does nothing at steps that are not logged, so it need not be called there."""
    hook.wants_unlogged_steps = False  # type: ignore[attr-defined]
    return hook


class IntervalMetrics(pl.LightningModule):
    """Logs ratio metrics (sum / count): per logging interval in training, over the whole split in validation and test.

    A `self.log` per step costs several times a small model's step, and even summing a few numbers costs a tenth of it.
    So a step only buffers its outputs on the device; those of several steps are summed at once, and logged once per
    interval, over all ranks. A subclass implements `loss_and_outputs` (the training step's computation), `summed` (sums
    of outputs) and `means` (metrics from sums), and passes validation and test outputs to `add_evaluation`.

    Attributes:
        packable_hyperparameters: constructor parameters in which models trained together on stacked weights may differ
            (studies/acceleration/packing/stacked_module.py); empty if this class cannot be stacked.
        pure_loss: within an epoch, `loss_and_outputs` depends only on batch, weights and PyTorch's random numbers, so
            that steps may be replayed (replay.py). Not inherited: each class has to declare it itself.
        flush_denormals: numbers below 1e-38 may become 0 in training, which is faster if moments of dead weights shrink
            to such numbers (studies/trial/trainer.py). Not inherited either.
    """

    packable_hyperparameters: ClassVar[tuple[str, ...]] = ()
    pure_loss: ClassVar[bool] = False
    flush_denormals: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        # Not buffers, since they are not part of the weights.
        self._train_sums: Tensor | None = None
        self._train_outputs: list[tuple[Tensor, ...]] = []  # of batches that are not summed yet
        self._eval_sums: Tensor | None = None
        self._logged_step = 0

    def loss_and_outputs(self, batch: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A training batch's loss, (), and the outputs for `summed`; depends only on batch and weights."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, outputs = self.loss_and_outputs(batch)
        self.add_training(*outputs)
        return loss

    training_step.is_of_loss_and_outputs = True  # type: ignore[attr-defined]  # a step does nothing else

    def summed(self, *outputs: Tensor) -> Tensor:
        """Sums, float (N,), of the outputs of several batches, each concatenated along its first dimension."""
        raise NotImplementedError

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        """Metrics of a split ("train", "val" or "test") from its sums: name without the split -> value."""
        raise NotImplementedError

    def of_interval(self) -> dict[str, Any]:
        """Further values to log at the end of an interval, while the step's gradients exist: name -> value."""
        return {}

    def add_training(self, *outputs: Tensor) -> None:
        """Adds a training batch's outputs, detached, to the interval."""
        self._train_outputs.append(tuple(output.detach() for output in outputs))
        kept = len(self._train_outputs)
        if kept == KEPT or kept * outputs[0].numel() >= KEPT_NUMBERS:
            self._sum_up()

    def add_sums(self, sums: Tensor) -> None:
        """Adds the sums of training batches, (N,), to the interval, instead of their outputs."""
        self._train_sums = sums if self._train_sums is None else self._train_sums + sums

    def add_evaluation(self, *outputs: Tensor) -> None:
        """Adds a validation or test batch's outputs."""
        sums = self.summed(*outputs)
        self._eval_sums = sums if self._eval_sums is None else self._eval_sums + sums

    def _sum_up(self) -> None:
        self.add_sums(self.summed(*(torch.cat(outputs) for outputs in zip(*self._train_outputs, strict=True))))
        self._train_outputs.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # For an interval that a resumed run will complete. Outputs are not summed here, since other summation groups
        # would change the last bit.
        if self._trainer is not None and self._trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the next epoch begins a new interval
        checkpoint["train_sums"] = self._train_sums
        checkpoint["train_outputs"] = [[output.clone() for output in outputs] for outputs in self._train_outputs]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._train_sums = checkpoint.get("train_sums")
        self._train_outputs = [tuple(outputs) for outputs in checkpoint.get("train_outputs", [])]

    def on_train_start(self) -> None:
        if self._train_sums is not None:
            self._train_sums = self._train_sums.to(self.device)
        self._train_outputs = [tuple(output.to(self.device) for output in outputs) for outputs in self._train_outputs]

    def on_train_epoch_start(self) -> None:
        self._train_sums = None
        self._train_outputs.clear()

    @only_at_logged_steps
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, interval = self.trainer.global_step, self.trainer.log_every_n_steps
        # With gradient accumulation several batches end at one step; it is logged at the first of them.
        if not interval or step % interval or step == self._logged_step:
            return
        if self._train_outputs:
            self._sum_up()
        if self._train_sums is None:
            return
        self._logged_step = step
        metrics = self._named("train", self._train_sums)
        metrics["train/learning_rate"] = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        metrics |= self.of_interval()
        # Ranks have equally large batches, so the mean over ranks is the mean over samples.
        self.log_dict(metrics, on_step=True, on_epoch=False, sync_dist=True)
        self._train_sums = None

    def on_validation_epoch_start(self) -> None:
        self._eval_sums = None

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        self._eval_sums = None

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _log_evaluation(self, split: str) -> None:
        if self._eval_sums is None:
            return
        # Ranks may have unequal numbers of samples: add up their sums, then divide.
        sums = self.trainer.strategy.reduce(self._eval_sums, reduce_op="sum")
        self.log_dict(self._named(split, sums), sync_dist=True)
        self._eval_sums = None

    def _named(self, split: str, sums: Tensor) -> dict[str, Any]:
        # Lightning's handling of each value would take about ten kernels on the GPU, which is only needed with ranks.
        sums = sums.cpu() if self.trainer.world_size == 1 else sums
        return {f"{split}/{name}": value for name, value in self.means(split, sums).items()}
