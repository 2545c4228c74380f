"""The fast loop compared with Lightning's own: same calls, counters and logs, bit-identical weights."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from datamodules.in_memory_loader import InMemoryLoader
from lightning_modules import MLP
from studies.acceleration.training import epoch_loop as fast_loop
from studies.acceleration.training.epoch_loop import PlainStep, speed_up

HOOKS = ("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward")
HOOKS += ("on_before_optimizer_step", "on_train_batch_end", "on_validation_end", "on_train_epoch_end")


class Diary(Callback):
    """Records events with the trainer's state."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def note(self, hook: str, trainer: Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        state = (trainer.global_step, loop.batch_idx, loop.total_batch_idx, trainer.current_epoch)
        self.lines.append((hook, *state, loop.batch_progress.is_last_batch, dict(trainer.callback_metrics)))


def _noting(hook: str) -> Any:
    return lambda self, trainer, *rest: self.note(hook, trainer)


for _hook in HOOKS:
    setattr(Diary, _hook, _noting(_hook))


class Logged(Logger):
    name, version = "logged", ""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Any] = []

    def log_hyperparams(self, *arguments: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))


class Model(MLP):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(hidden_sizes=[8], input_shape=[1, 2, 2], num_classes=3, **arguments)


class LogsInEachStep(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("each", loss, on_step=True, on_epoch=True)
        return loss


class ReturnsADictionary(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "more": torch.ones(2, requires_grad=True)}


class SkipsSome(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 1 else loss


class TakesNoIndex(Model):
    def training_step(self, batch: Any) -> Tensor:  # type: ignore[override]
        return super().training_step(batch, 0)


class StopsAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


def loaders() -> tuple[InMemoryLoader, InMemoryLoader]:
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(90, 1, 2, 2, generator=generator), torch.randint(0, 3, (90,), generator=generator)
    return InMemoryLoader(tensors, 4, shuffle=True, drop_last=True), InMemoryLoader(tensors, 45)


def fit(
    fast: bool, folder: Path, model: type[Model] = Model, schedule: str = "onecycle", stop: int = 0, **trainer: Any
) -> Any:
    pl.seed_everything(3, verbose=False)
    module = model(dropout=0.2, schedule=schedule)
    diary, logged = Diary(), Logged()
    arguments = {"max_epochs": 2, "log_every_n_steps": 5, **trainer}
    runner = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=logged,
        callbacks=[*([StopsAt(stop)] if stop else []), diary],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    if fast:
        speed_up(runner)
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        take = PlainStep.__call__
        patch.setattr(PlainStep, "__call__", lambda step, batch: taken.append(step.next_index) or take(step, batch))
        runner.fit(module, *loaders())
    state = runner._checkpoint_connector.dump_checkpoint()
    return {"diary": diary.lines, "logged": logged.lines, "state": state}, taken


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


PLAIN: list[dict[str, Any]] = [
    {},
    {"schedule": "constant", "gradient_clip_val": 0.1},
    {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    {"log_every_n_steps": 1},
    {"log_every_n_steps": 0},
    {"val_check_interval": 0.25},
    {"val_check_interval": 7, "check_val_every_n_epoch": None},
    {"check_val_every_n_epoch": 2},
    {"limit_train_batches": 13, "limit_val_batches": 0},
    {"max_epochs": -1, "max_steps": 31, "schedule": "constant"},
    {"stop": 8},
    {"stop": 8, "min_steps": 17},
    {"model": LogsInEachStep},
    {"model": ReturnsADictionary},
    {"model": SkipsSome},
    {"model": TakesNoIndex},
]
SPECIAL: list[dict[str, Any]] = [
    {"accumulate_grad_batches": 3},
    {"precision": "bf16-mixed"},
    {"profiler": "simple"},
    {"fast_dev_run": 3},
]


@pytest.mark.parametrize("case", [*PLAIN, *SPECIAL], ids=str)
def test_it_does_the_same_as_lightning(tmp_path: Path, case: dict[str, Any]) -> None:
    usual, _ = fit(False, tmp_path, **case)
    fast, taken = fit(True, tmp_path, **case)
    assert bool(taken) == (case in PLAIN)
    for part in usual:
        assert same(usual[part], fast[part]), part


class StepsByItself(Model):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class ClearsByItself(Model):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)


class CallsItsClosureAgain(Model):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


@pytest.mark.parametrize(
    ("model", "is_taken"), [(StepsByItself, False), (ClearsByItself, True), (CallsItsClosureAgain, True)]
)
def test_unsupported_cases_are_left_to_lightning(tmp_path: Path, model: type[Model], is_taken: bool) -> None:
    usual, _ = fit(False, tmp_path, model, schedule="constant")
    fast, taken = fit(True, tmp_path, model, schedule="constant")
    assert bool(taken) == is_taken and same(usual, fast)


def test_most_steps_are_plain(tmp_path: Path) -> None:
    _, taken = fit(True, tmp_path, log_every_n_steps=11)
    # All of an epoch's 22 batches except the first and the last.
    assert taken == 2 * list(range(1, 21))


class ChangesItsOptimizer(Model):
    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        if self.global_step == 8:
            self.trainer.strategy.setup_optimizers(self.trainer)


def test_after_a_change_lightning_takes_one_step_and_later_ones_are_plain_again(tmp_path: Path) -> None:
    _, taken = fit(True, tmp_path, ChangesItsOptimizer, max_epochs=1, schedule="constant")
    assert taken == [*range(1, 8), *range(9, 21)]


def test_listeners_are_checked_at_each_step(tmp_path: Path) -> None:
    """A hook may be added to a callback, its class or the module at any time."""
    listeners = fast_loop._Listeners
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer: Any = Trainer(accelerator="cpu", default_root_dir=tmp_path, **silent)  # type: ignore[arg-type]
    callback, module = Callback(), pl.LightningModule()
    trainer.callbacks.append(callback)
    assert listeners(trainer, module).are_still_none()
    changes: list[tuple[Any, str]] = [(callback, "on_before_zero_grad"), (module, "on_after_backward")]
    changes += [(module, "configure_gradient_clipping"), (type(module), "on_before_backward")]
    for item, hook in changes:
        found = listeners(trainer, module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(item, hook, lambda *_: None)
            assert not found.are_still_none(), hook
    found = listeners(trainer, module)
    trainer.callbacks.append(Callback())
    assert not found.are_still_none()


def metric_where(change: str) -> Any:
    """A torchmetrics object of the given kind."""
    metric: Any = MulticlassAccuracy(2)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    if change == "a subclass moves itself":
        metric.__class__ = type("Moves", (MulticlassAccuracy,), {"_apply": MulticlassAccuracy._apply})
        type(metric)._apply = lambda self, fn, **_: self
    elif change == "it moves itself":
        metric._apply = lambda fn, **_: metric
    elif change == "a state is a list":
        metric = torchmetrics.CatMetric()
        metric.update(torch.ones(2))
    elif change == "a child":
        metric.child = torchmetrics.SumMetric()
    elif change == "a buffer":
        metric.register_buffer("weights", torch.ones(2))
    elif change == "another dtype":
        metric.set_dtype(torch.float64)
    elif change == "a state is elsewhere":
        metric.tp = metric.tp.to("meta")
    elif change == "computed":
        metric._computed = {"one": torch.ones(1)}
    elif change == "not even one":
        return None
    return metric


KINDS = ["a subclass moves itself", "it moves itself", "a state is a list", "a child", "a buffer", "another dtype"]


@pytest.mark.parametrize("kind", [*KINDS, "a state is elsewhere", "computed", "not even one"])
def test_a_metric_that_a_move_might_change_is_moved(kind: str) -> None:
    cpu = torch.device("cpu")
    assert fast_loop._is_settled(metric_where("nothing"), cpu)
    assert not fast_loop._is_settled(metric_where("nothing"), torch.device("meta"))
    assert not fast_loop._is_settled(metric_where(kind), cpu)
