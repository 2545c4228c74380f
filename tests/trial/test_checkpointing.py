from types import SimpleNamespace
from typing import Any

from studies.trial.checkpointing import can_leave


def after(batch: int, accumulates: int) -> Any:
    """A Trainer after a batch (0-based) of a long epoch, without validation or logging there."""
    epoch_loop = SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=False))
    return SimpleNamespace(
        fit_loop=SimpleNamespace(total_batch_idx=batch, epoch_loop=epoch_loop),
        check_val_every_n_epoch=1,
        val_check_batch=100,
        log_every_n_steps=0,
        global_step=(batch + 1) // accumulates,
        accumulate_grad_batches=accumulates,
    )


def test_a_trial_does_not_stop_within_an_accumulation() -> None:
    """Checkpoints contain no gradients."""
    assert [can_leave(after(batch, 1), batch) for batch in range(4)] == [True] * 4
    assert [can_leave(after(batch, 2), batch) for batch in range(4)] == [False, True, False, True]
    assert [can_leave(after(batch, 3), batch) for batch in range(6)] == [False, False, True] * 2
