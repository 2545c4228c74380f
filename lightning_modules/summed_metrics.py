"""Metrics per logging interval, out of sums that stay on the device between."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor


class SummedMetrics(pl.LightningModule):
    """Logs metrics that are quotients of sums: over each logging interval in training, over the whole set else.

    A `self.log` per step costs several times a small model's step. Here a step adds a few numbers on the
    device; they are read out once per interval, and over all ranks. A subclass calls `add_training` and
    `add_evaluation` in its steps and says by `means` what the sums come to.
    """

    def __init__(self) -> None:
        super().__init__()
        # No buffers: they are no part of the weights.
        self._train_sums: Tensor | None = None
        self._eval_sums: Tensor | None = None
        self._logged_step = 0

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        """Name -> value of the metrics of a split ("train", "val" or "test"), without its name, from its sums."""
        raise NotImplementedError

    def add_training(self, sums: Tensor) -> None:
        """Adds a training batch's sums, float (N,), without gradient, to those of the interval."""
        self._train_sums = sums if self._train_sums is None else self._train_sums + sums

    def add_evaluation(self, sums: Tensor) -> None:
        """Adds a validation or test batch's sums, float (M,)."""
        self._eval_sums = sums if self._eval_sums is None else self._eval_sums + sums

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_sums"] = self._train_sums  # of an interval that a resumed run will end

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._train_sums = checkpoint.get("train_sums")

    def on_train_start(self) -> None:
        if self._train_sums is not None:
            self._train_sums = self._train_sums.to(self.device)

    def on_train_epoch_start(self) -> None:
        self._train_sums = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, interval = self.trainer.global_step, self.trainer.log_every_n_steps
        # With gradient accumulation several batches end at one step; it is logged at the first of them.
        if not interval or step % interval or step == self._logged_step or self._train_sums is None:
            return
        self._logged_step = step
        metrics = self._named("train", self._train_sums)
        metrics["train/learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
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
        return {f"{split}/{name}": value for name, value in self.means(split, sums).items()}
