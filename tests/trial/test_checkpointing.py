"""When checkpoints are saved, what is in them, and where a fit may be left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader, EventWriter
from studies.protocol.events import CheckpointSaved
from studies.trial.checkpointing import (
    AFTER_EPOCH,
    BEFORE_EPOCH,
    WITHIN_EPOCH,
    Checkpoints,
    ResumePoint,
    _may_change_weights,
    _without_slices,
    can_leave,
    knows_its_position,
    loadable,
    metric_value,
)


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


def with_changes(trainer: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(trainer, name, value)
    return trainer


def test_a_trial_is_not_left_where_it_validates() -> None:
    trainers = [with_changes(after(batch, 1), val_check_batch=3) for batch in range(6)]
    assert [can_leave(trainer, batch) for batch, trainer in enumerate(trainers)] == [True, True, False] * 2
    never = with_changes(after(2, 1), val_check_batch=None)
    assert can_leave(never, 2)


def test_validations_are_counted_within_the_epoch_or_over_all_of_them() -> None:
    """The second batch of the second epoch of five is the seventh of all."""
    trainer = with_changes(after(6, 1), val_check_batch=7)
    assert can_leave(trainer, 1)
    assert not can_leave(with_changes(trainer, check_val_every_n_epoch=None), 1)
    assert not can_leave(with_changes(trainer, val_check_batch=2, check_val_every_n_epoch=1), 1)


def test_a_trial_is_not_left_where_it_logs() -> None:
    """Lightning counts batches; an optimizer's step may be counted, too."""
    trainers = [with_changes(after(batch, 1), log_every_n_steps=2) for batch in range(4)]
    assert [can_leave(trainer, batch) for batch, trainer in enumerate(trainers)] == [True, False] * 2
    two_optimizers = with_changes(after(2, 1), log_every_n_steps=4, global_step=8)
    assert not can_leave(two_optimizers, 2)


def test_the_end_of_an_epoch_is_no_place_within_it() -> None:
    trainer = after(4, 1)
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    assert not can_leave(trainer, 4)


class Rows(Dataset[Tensor]):
    """Six numbers."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index)])


class Line(LightningModule):
    """Fits a line without data of its own; counts what its hooks are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fitted(
    folder: Path,
    module: Any = None,
    *others: Callback,
    metric: str | None = None,
    stop: str | None = None,
    **arguments: Any,
) -> tuple[Checkpoints, Trainer]:
    """A fit of three epochs of six batches, with our checkpoints in `folder`."""
    channel = Channel(EventWriter(folder / NAME))
    checkpoints = Checkpoints(channel, folder / "checkpoints", metric, "minimize")
    checkpoints.folder.mkdir(parents=True)
    channel.stop_reason = stop
    trainer = Trainer(
        callbacks=[checkpoints.resume_point, *others, checkpoints],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"max_epochs": 3, **arguments},
    )
    with checkpoints.resume_point.noting_loaders():
        trainer.fit(module or Line(), DataLoader(Rows()))
    return checkpoints, trainer


def saved(folder: Path) -> list[tuple[str, int, int]]:
    """(file, step, epoch) of each checkpoint, in the order of saving."""
    events = EventReader(folder / NAME).read()
    return [(Path(event.path).name, event.step, event.epoch) for event in events if isinstance(event, CheckpointSaved)]


def test_both_are_saved_after_each_epoch_where_there_is_no_metric(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path)
    ends = [(6, 0), (12, 1), (18, 2)]
    assert saved(tmp_path) == [(name, *end) for end in ends for name in ("best.ckpt", "last.ckpt")]
    assert (checkpoints.best_step, checkpoints.best_epoch) == (18, 2)
    states = [torch.load(path)["harness"] for path in (checkpoints.last, checkpoints.folder / "previous.ckpt")]
    assert [state["where"] for state in states] == [AFTER_EPOCH, BEFORE_EPOCH]
    assert [state["final"] for state in states] == [True, False]
    assert checkpoints.best_model_path == str(checkpoints.best) and checkpoints.last_model_path == str(checkpoints.last)
    assert checkpoints.best_model_score is None and checkpoints.dirpath == str(checkpoints.folder)


def test_paths_of_checkpoints_that_are_not_there_are_empty(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Channel(None), tmp_path, "m", "minimize")
    assert checkpoints.best_model_path == checkpoints.last_model_path == ""
    checkpoints.best_value = 0.5
    assert checkpoints.best_model_score == 0.5


def test_a_fit_that_ends_by_its_steps_within_an_epoch_keeps_its_last_weights(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, max_steps=8, max_epochs=-1)
    assert saved(tmp_path) == [("best.ckpt", 6, 0), ("last.ckpt", 6, 0), ("best.ckpt", 8, 1)]
    assert (checkpoints.best_step, checkpoints.best_epoch) == (8, 1)
    assert torch.load(checkpoints.last)["global_step"] == 6


def test_a_fit_that_was_stopped_within_an_epoch_keeps_what_it_had(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, stop="interrupted", max_steps=8, max_epochs=-1)
    assert saved(tmp_path) == [("best.ckpt", 6, 0), ("last.ckpt", 6, 0)]
    assert checkpoints.best_step == 6


class Stops(Callback):
    """Stops a fit at a batch, as the driver's word does; see Verdicts."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.at:
            trainer.should_stop = True
            point = next(item for item in trainer.callbacks if isinstance(item, ResumePoint))  # type: ignore[attr-defined]
            point.is_leaving, point.natural = True, False


def test_a_fit_that_is_left_within_an_epoch_is_saved_there(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, None, Stops(at=8))
    assert saved(tmp_path)[-1] == ("last.ckpt", 8, 1)
    state = torch.load(checkpoints.last)["harness"]
    assert state["where"] == WITHIN_EPOCH and not state["final"] and state["epoch_began"] is not None
    assert not loadable(str(checkpoints.last)).notices


class Sums(Line):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss, on_epoch=True)
        return loss


def test_what_is_summed_over_an_epoch_is_in_no_checkpoint_so_there_is_none_within_it(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, Sums(), Stops(at=8))
    assert saved(tmp_path)[-1] == ("last.ckpt", 6, 0)
    assert checkpoints.resume_point.sums_over_epoch


def test_once_a_minute_a_checkpoint_is_saved_within_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("studies.trial.checkpointing.time", SimpleNamespace(monotonic=lambda: now))

    class Slow(Line):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            nonlocal now
            now += 25.0
            return super().training_step(batch, batch_idx)

    fitted(tmp_path / "slow", Slow(), max_epochs=1)
    assert saved(tmp_path / "slow") == [("last.ckpt", 3, 0), ("best.ckpt", 6, 0), ("last.ckpt", 6, 0)]

    class WithHook(Slow):
        def on_train_batch_end(self, *arguments: Any) -> None:
            """It would be called after the checkpoint, and what it does would be lost."""

    fitted(tmp_path / "hook", WithHook(), max_epochs=1)
    assert saved(tmp_path / "hook") == [("best.ckpt", 6, 0), ("last.ckpt", 6, 0)]


def test_the_best_value_is_kept_with_its_weights(tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0])

    class Measures(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            checkpoints = next(item for item in trainer.callbacks if isinstance(item, Checkpoints))  # type: ignore[attr-defined]
            checkpoints.measured(trainer, next(values), {})

    checkpoints, _ = fitted(tmp_path, None, Measures(), metric="m")
    assert (checkpoints.best_value, checkpoints.best_step, checkpoints.best_epoch) == (1.0, 12, 1)
    best = torch.load(checkpoints.best)
    assert best["global_step"] == 12
    assert [name for name, _, _ in saved(tmp_path)].count("best.ckpt") == 2
    mine = next(state for key, state in torch.load(checkpoints.last)["callbacks"].items() if "Checkpoints" in key)
    restored = Checkpoints(Channel(None), tmp_path, "m", "minimize")
    restored.load_state_dict(mine)
    assert restored.state_dict() == mine == {"best_value": 1.0, "best_step": 12, "best_epoch": 1}


def test_saving_draws_nothing_from_random_generators(tmp_path: Path) -> None:
    class Draws(Callback):
        def on_save_checkpoint(self, *arguments: Any) -> None:
            torch.rand(3)

    torch.manual_seed(0)
    fitted(tmp_path / "a")
    expected = torch.rand(1)
    torch.manual_seed(0)
    fitted(tmp_path / "b", None, Draws())
    assert torch.equal(torch.rand(1), expected)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studies.trial.checkpointing._flush", full)
    with pytest.raises(OSError, match="No space left"):
        fitted(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


class HasSocket(Line):
    """Its checkpoint holds what nobody can pickle."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["thing"] = (number for number in range(3))


class HookFails(Line):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise TypeError("of my own")


def test_what_cannot_be_pickled_is_an_error_of_one_line_and_a_hooks_own_error_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its checkpoints cannot be written: "):
        fitted(tmp_path / "a", HasSocket())
    with pytest.raises(TypeError, match="of my own"):
        fitted(tmp_path / "b", HookFails())


class Thing:
    """An object of a user's own."""


class HasThing(Line):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["thing"] = Thing()


def test_best_holds_what_can_be_read_without_running_code_and_last_all_of_it(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, HasThing())
    best = torch.load(checkpoints.best, weights_only=True)
    assert "thing" in best["harness_left_out"] and "thing" not in best and "optimizer_states" not in best
    assert isinstance(torch.load(checkpoints.last, weights_only=False)["thing"], Thing)
    found = loadable(str(checkpoints.last), extends=True)
    assert found.path == str(checkpoints.last) and not found.weights_only


@pytest.mark.parametrize(("loader", "known"), [("map", True), ("iterable", False)])
def test_which_loaders_can_be_put_back(tmp_path: Path, loader: str, known: bool) -> None:
    class Stream(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self) -> Any:
            return iter(torch.zeros(6, 1))

    class Asks(Stops):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            answers.add(knows_its_position(trainer))

    answers: set[bool] = set()
    data: Any = DataLoader(Rows() if loader == "map" else Stream())
    Trainer(
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Asks(0)],
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    ).fit(Line(), data)
    assert answers == {known}


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end", "on_train_end"])
def test_hooks_of_the_users_may_change_weights(hook: str) -> None:
    plain = Line()
    mine = type("Mine", (Line,), {hook: lambda self: None})()
    callback = type("OfMine", (Callback,), {hook: lambda self, *arguments: None})()
    ours = type("OfOurs", (Callback,), {hook: lambda self, *arguments: None, "__module__": "studies.trial.x"})()
    for module, callbacks, expected in ((plain, [ours], False), (mine, [], True), (plain, [callback], True)):
        trainer: Any = SimpleNamespace(lightning_module=module, callbacks=callbacks)
        assert _may_change_weights(trainer) == expected


def test_a_metric_that_nobody_logs_is_named_with_those_that_are() -> None:
    trainer: Any = SimpleNamespace(callback_metrics={"b": torch.tensor(1.0), "a": torch.tensor(2.5)})
    assert metric_value(trainer, "a") == 2.5
    with pytest.raises(ValueError, match=r"must be one the module logs \(a, b\), but got metric='c'"):
        metric_value(trainer, "c")


def test_slices_are_saved_without_what_they_are_slices_of() -> None:
    whole = torch.zeros(4, 3)
    copied = _without_slices({"whole": whole, "slice": whole[1], "number": 3})
    assert copied["whole"] is whole and copied["number"] == 3
    assert copied["slice"].untyped_storage().nbytes() == 12 and torch.equal(copied["slice"], whole[1])


def test_there_is_no_best_checkpoint_before_there_is_a_value(tmp_path: Path) -> None:
    checkpoints, _ = fitted(tmp_path, metric="m")
    assert saved(tmp_path) == [("last.ckpt", 6, 0), ("last.ckpt", 12, 1), ("last.ckpt", 18, 2)]
    assert not checkpoints.best.exists() and checkpoints.best_step is None
