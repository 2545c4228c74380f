"""A small module, and modules with features of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


class AscendsTwice(torch.optim.SGD):
    """Calls its closure twice, as sharpness-aware minimization does."""

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        super().step()
        closure()
        super().step()
        return loss


class NeverAsks(torch.optim.SGD):
    """Doesn't call its closure."""

    def step(self, closure: Any = None) -> Any:
        return None


class ClearsToZero(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none=False)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def fused(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)


def fused_groups(net: Any) -> torch.optim.Optimizer:
    groups = [{"params": net[0].parameters(), "lr": 1e-3}, {"params": net[3].parameters()}]
    return torch.optim.Adam(groups, lr=1e-2, fused=True)


def clamped(net: Any) -> torch.optim.Optimizer:
    """Its step is wrapped, as in projected gradient descent."""
    optimizer = fused(net)
    step = optimizer.step

    def projected(closure: Any = None) -> Any:
        loss = step(closure)
        with torch.no_grad():
            net[3].bias.clamp_(-0.01, 0.01)
        return loss

    optimizer.step = projected  # type: ignore[method-assign]
    return optimizer


def halved(net: Any) -> torch.optim.Optimizer:
    """Lightning calls pre-hooks before a step's gradients exist."""
    optimizer = fused(net)

    def halve(optimizer: Any, arguments: Any, options: Any) -> None:
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)

    optimizer.register_step_pre_hook(halve)
    return optimizer


def decayed(net: Any) -> torch.optim.Optimizer:
    optimizer = fused(net)

    def decay(optimizer: Any, arguments: Any, options: Any) -> None:
        with torch.no_grad():
            net[0].weight.mul_(0.99)

    optimizer.register_step_post_hook(decay)
    return optimizer


def zero_patched(net: Any) -> torch.optim.Optimizer:
    optimizer = fused(net)
    optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]  # gradients add up
    return optimizer


OPTIMIZERS: dict[str, Any] = {
    "sgd": sgd,
    "adamw": lambda net: torch.optim.AdamW(net.parameters(), lr=1e-2),
    "fused": fused,
    "fused_groups": fused_groups,
    "fused_amsgrad": lambda net: torch.optim.Adam(net.parameters(), lr=1e-2, fused=True, amsgrad=True),
    "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), lr=1e-3),
    "lbfgs": lambda net: torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3),
    "ascends_twice": lambda net: AscendsTwice(net.parameters(), lr=0.1),
    "never_asks": lambda net: NeverAsks(net.parameters(), lr=0.1),
    "clears_to_zero": lambda net: ClearsToZero(net.parameters(), lr=0.1),
    "clamped": clamped,
    "halved": halved,
    "decayed": decayed,
    "zero_patched": zero_patched,
}


def _each_step(scheduler: Any, frequency: int = 1) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step", "frequency": frequency}


SCHEDULES: dict[str, Any] = {
    "none": None,
    "onecycle": lambda optimizer: [_each_step(lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=1000))],
    "cosine": lambda optimizer: [lr_scheduler.CosineAnnealingLR(optimizer, 5)],
    "two": lambda optimizer: [
        _each_step(lr_scheduler.StepLR(optimizer, 1, 0.9), 3),
        {"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "epoch"},
    ],
    "plateau": lambda optimizer: [
        {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5), "monitor": "val_loss"}
    ],
    "plateau_step": lambda optimizer: [
        _each_step(lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5), 3) | {"monitor": "loss"}
    ],
}


class Net(LightningModule):
    """A network of two layers with dropout.

    Args:
        optimizer: a name of OPTIMIZERS.
        schedule: a name of SCHEDULES.
    """

    def __init__(self, optimizer: str = "fused", schedule: str = "none") -> None:
        super().__init__()
        self.names = optimizer, schedule
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.notes: list[Any] = []

    def loss(self, batch: Any) -> Tensor:
        if isinstance(batch, Mapping) and "inputs" in batch:
            batch = batch["inputs"], batch["targets"]
        elif isinstance(batch, Mapping):
            return torch.stack([self.loss(part) for part in batch.values()]).sum()
        if not isinstance(batch[0], Tensor):  # several loaders, some exhausted
            return torch.stack([self.loss(part) for part in batch if part is not None]).sum()
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer, schedule = OPTIMIZERS[self.names[0]](self.net), SCHEDULES[self.names[1]]
        return optimizer if schedule is None else ([optimizer], schedule(optimizer))


class Silent(Net):
    """Logs nothing in training."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


class LogsInManyWays(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("count", batch_idx)
        self.log("flag", True)
        self.log("large", torch.tensor(1e20, dtype=torch.float64))
        self.log("summed", 1.0, reduce_fx="sum", on_step=False, on_epoch=True)
        self.log("highest", loss, reduce_fx="max", on_step=True, on_epoch=True)
        self.log("weighted", float(batch_idx), batch_size=2, on_epoch=True)
        self.log("synced", loss, sync_dist=True)
        self.log("graph", loss, enable_graph=True)
        if batch_idx in (2, 7):
            self.log("rarely", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict({"one": loss, "two": loss * 2}, on_step=False, on_epoch=True, batch_size=batch_idx + 1)
        return loss


class LogsTwiceDifferently(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 5:
            self.log("loss", 0.0)
        return super().training_step(batch, batch_idx)


class LogsMetrics(Net):
    """torchmetrics: objects, a collection, a value; from steps and hooks."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.accuracy, self.on_epoch = MulticlassAccuracy(3), MulticlassAccuracy(3)
        self.many = MetricCollection([MulticlassAccuracy(3), MulticlassF1Score(3)], prefix="many_")
        self.of_validation = MulticlassF1Score(3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss, predicted = super().training_step(batch, batch_idx), self.net(batch[0]).argmax(dim=1)
        self.accuracy(predicted, batch[1])
        self.log("accuracy", self.accuracy, on_step=True, on_epoch=True, prog_bar=True)
        self.on_epoch.update(predicted, batch[1])
        self.log("of_epoch", self.on_epoch, on_step=False, on_epoch=True)
        self.many(predicted, batch[1])
        self.log_dict(self.many, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        super().validation_step(batch, batch_idx)
        self.of_validation.update(self.net(batch[0]).argmax(dim=1), batch[1])

    def on_validation_epoch_end(self) -> None:
        self.log("val_f1", self.of_validation)
        self.log("val_f1_value", self.of_validation.compute())

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.log("from_hook", self.accuracy, metric_attribute="accuracy")

    def on_train_epoch_end(self) -> None:
        self.log("at_the_end", self.accuracy.compute())


class LogsOnlyMetrics(Silent):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.accuracy = MulticlassAccuracy(3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.accuracy(self.net(batch[0]).argmax(dim=1), batch[1])
        self.log("accuracy", self.accuracy)
        return self.loss(batch)


class ReturnsADictionary(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "more": self.net(batch[0]), "number": 3}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.notes.append((sorted(outputs), outputs["more"].requires_grad, float(outputs["loss"])))


class ReturnsADictionaryUnheard(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "number": 3}


class ReturnsNoLoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"losses": super().training_step(batch, batch_idx)} if batch_idx == 3 else self.loss(batch)


class ReturnsNone(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 1 else loss


class ReturnsText(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return "loss" if batch_idx == 3 else super().training_step(batch, batch_idx)


class TakesNoIndex(Net):
    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        return self.loss(batch)


class TakesTheIterator(Net):
    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        batch, _, _ = next(dataloader_iter)
        return self.loss(batch)


class KeepsItsLoss(Net):
    """Modifies its loss in place after use; callbacks get the original loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.last = super().training_step(batch, batch_idx)
        return self.last

    def on_after_backward(self) -> None:
        with torch.no_grad():
            self.last.detach().mul_(0)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.notes.append((float(outputs["loss"]), float(self.last.detach())))


class ChangesTheLossOnItsWay(Net):
    """Doubles the loss in `on_before_backward`, so it differs from training_step's result."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.last = super().training_step(batch, batch_idx)
        return self.last

    def on_before_backward(self, loss: Tensor) -> None:
        loss.mul_(2)
        self.notes.append((loss is self.last, float(loss.detach()), float(self.last.detach())))


class Listens(Net):
    """Has all hooks of a step, and logs from them."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.notes.append(("start", batch_idx, self._current_fx_name))

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.notes.append(("zero", self._current_fx_name, self.net[0].weight.grad is None))

    def on_before_backward(self, loss: Tensor) -> None:
        self.log("before_backward", loss)

    def on_after_backward(self) -> None:
        self.log("norm", self.net[0].weight.grad.norm(), on_step=True, on_epoch=True)  # type: ignore[union-attr]

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.net[0].weight.grad.mul_(0.5)  # type: ignore[union-attr]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("end", float(batch_idx))


class SkipsTheRest(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 6 else None


class OverridesOptimizerStep(Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        self.notes.append((epoch, batch_idx))


class OverridesZeroGrad(Net):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if batch_idx % 2:
            optimizer.zero_grad(set_to_none=False)


class OverridesBackward(Net):
    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        (loss * 2).backward()


class OverridesClipping(Net):
    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.05, gradient_clip_algorithm="norm")


class OverridesSchedulerStep(Net):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self.notes.append((type(scheduler).__name__, self._current_fx_name))
        scheduler.step()


class OverridesTransfer(Net):
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return [part.to(device) * 2 if part.is_floating_point() else part.to(device) for part in batch]


class TwoOptimizersByHand(Net):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, 0.1)
            optimizer.step()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.log("loss", loss)

    def configure_optimizers(self) -> Any:
        first, second = torch.optim.Adam(self.net[0].parameters()), torch.optim.SGD(self.net[3].parameters(), lr=0.1)
        return [first, second], [lr_scheduler.StepLR(first, 3, 0.5)]


class NoOptimizer(Net):
    def configure_optimizers(self) -> Any:
        return None


class ConfiguresItsModel(Net):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.net = None  # type: ignore[assignment]

    def configure_model(self) -> None:
        if self.net is None:
            self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


class ChangesItsBatch(Net):
    """Replaces the inputs in its batch list."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if isinstance(batch, list):
            batch[0] = batch[0] * 0.5
        return super().training_step(batch, batch_idx)


class HasOneNumberAsLoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)[None]


class HasManyNumbersAsLoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss.expand(2) if batch_idx == 4 else loss


class LosesItsGraph(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss.detach() if batch_idx == 4 else loss


class Raises(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 6:
            raise KeyError("a missing key")
        return super().training_step(batch, batch_idx)


class EndsItsEpoch(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 6:
            raise StopIteration
        return super().training_step(batch, batch_idx)


class HooksItsTensors(Net):
    def on_fit_start(self) -> None:
        self.net[0].weight.register_hook(lambda gradient: gradient * 0.5)
        self.net[3].bias.register_post_accumulate_grad_hook(
            lambda parameter: self.notes.append((self._current_fx_name, float(parameter.grad.sum())))
        )
        self.net[1].register_forward_hook(lambda layer, inputs, output: output * 1.5)


class DrawsByItself(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step([batch[0] + 0.1 * torch.randn_like(batch[0]), *batch[1:]], batch_idx)


class LeavesGradientsOff(Net):
    """Disables gradients in a step without re-enabling them; Lightning does, after that step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 5:
            torch.set_grad_enabled(False)
        return loss


class ClassProperty(Net):
    """Declares manual optimization by a property of its class."""

    automatic_optimization = False  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


HABITS: list[type[Net]] = [Net, Silent, LogsInManyWays, LogsTwiceDifferently, LogsMetrics, LogsOnlyMetrics]
HABITS += [ReturnsADictionary, ReturnsADictionaryUnheard, ReturnsNoLoss, ReturnsNone, ReturnsText, TakesNoIndex]
HABITS += [TakesTheIterator, KeepsItsLoss, ChangesTheLossOnItsWay, Listens, SkipsTheRest, OverridesOptimizerStep]
HABITS += [OverridesZeroGrad, OverridesBackward, OverridesClipping, OverridesSchedulerStep, OverridesTransfer]
HABITS += [TwoOptimizersByHand, NoOptimizer, ConfiguresItsModel, ChangesItsBatch, HasOneNumberAsLoss]
HABITS += [HasManyNumbersAsLoss, LosesItsGraph, Raises, EndsItsEpoch, HooksItsTensors, DrawsByItself]
HABITS += [LeavesGradientsOff, ClassProperty]
