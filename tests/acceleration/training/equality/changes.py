"""Changes that modules make within an epoch, and where they make them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from equality.data import Data, stacked
from equality.models import Net
from pytorch_lightning import Callback
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook

STEP = 5  # step of the change

Change = Callable[[Any], None]  # changes a module


class Notes(Callback):
    """Records the ends of steps once it is added."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.notes.append((batch_idx, {name: float(value) for name, value in outputs.items()}))


def optimizer_of(module: Net) -> Any:
    return module.trainer.optimizers[0]


def new_optimizers(module: Net) -> None:
    module.trainer.strategy.setup_optimizers(module.trainer)


def another_optimizer(module: Net) -> None:
    module.trainer.optimizers = [torch.optim.SGD(module.parameters(), lr=0.5)]


def another_in_the_list(module: Net) -> None:
    module.trainer.optimizers[0] = torch.optim.SGD(module.parameters(), lr=0.5)


def setting(name: str, value: Any) -> Change:
    return lambda module: setattr(module.trainer, name, value)


def fewer_steps(module: Net) -> None:
    module.trainer.fit_loop.epoch_loop.max_steps = 8


def a_new_schedule(module: Net) -> None:
    schedule = lr_scheduler.StepLR(optimizer_of(module), 1, 0.5)
    module.trainer.strategy.lr_scheduler_configs = [LRSchedulerConfig(schedule, interval="step")]


def another_schedule(module: Net) -> None:
    schedule = lr_scheduler.ExponentialLR(optimizer_of(module), 0.8)
    module.trainer.lr_scheduler_configs.append(LRSchedulerConfig(schedule, interval="step", frequency=2))


def a_plateau_at_each_step(module: Net) -> None:
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer_of(module), patience=0)
    module.trainer.lr_scheduler_configs.append(
        LRSchedulerConfig(schedule, interval="step", monitor="loss", reduce_on_plateau=True)
    )


def other_moments(module: Net) -> None:
    for parameter in list(module.parameters())[1:]:
        state = optimizer_of(module).state[parameter]
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.ones_like(parameter)


def other_counts(module: Net) -> None:
    optimizer_of(module).state[module.net[3].bias]["step"] = torch.tensor(1.0)


def no_moments(module: Net) -> None:
    optimizer_of(module).state.clear()


def another_parameter(module: Any) -> None:
    """As in Gaussian splatting."""
    optimizer, old = optimizer_of(module), module.net[3].bias
    new = module.net[3].bias = nn.Parameter(old.detach().clone() + 1)
    parameters = optimizer.param_groups[0]["params"]
    optimizer.state[new] = optimizer.state.pop(old)
    parameters[next(index for index, parameter in enumerate(parameters) if parameter is old)] = new


def another_group(module: Net) -> None:
    module.more = nn.Parameter(torch.ones(3))  # type: ignore[assignment]
    module.net[3].register_forward_hook(lambda layer, inputs, output: output + module.more)
    optimizer_of(module).add_param_group({"params": [module.more], "lr": 0.1})


def a_frozen_layer(module: Net) -> None:
    module.net[0].requires_grad_(False)


def option(name: str, value: Any) -> Change:
    return lambda module: optimizer_of(module).param_groups[0].__setitem__(name, value)


def amsgrad(module: Net) -> None:
    for state in optimizer_of(module).state.values():
        state["max_exp_avg_sq"] = torch.ones_like(state["exp_avg_sq"])
    option("amsgrad", True)(module)


def halves(module: Net) -> Callable[..., None]:
    def halve(*arguments: Any) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)

    return halve


def a_pre_hook(module: Net) -> None:
    optimizer_of(module).register_step_pre_hook(halves(module))


def a_post_hook(module: Net) -> None:
    optimizer_of(module).register_step_post_hook(lambda *_: module.notes.append(module._current_fx_name))


def everybodys_hook(module: Net) -> None:
    hook = halves(module)
    module.undo = register_optimizer_step_pre_hook(  # type: ignore[assignment]
        lambda optimizer, *_: hook() if optimizer is optimizer_of(module) else None
    ).remove


def a_wrapped_step(module: Net) -> None:
    optimizer = optimizer_of(module)
    step = optimizer.step

    def shrunk(closure: Any = None) -> Any:
        loss = step(closure)
        with torch.no_grad():
            module.net[3].bias.mul_(0.9)
        return loss

    optimizer.step = shrunk


def a_wrapped_zero_grad(module: Net) -> None:
    optimizer_of(module).zero_grad = lambda set_to_none=True: module.notes.append("kept")


def own(name: str, hook: Callable[..., Any]) -> Change:
    """Sets a hook on the module itself; `hook` gets the module as its first argument."""
    return lambda module: setattr(module, name, partial(hook, module))


def of_class(name: str, hook: Callable[..., Any]) -> Change:
    """Sets a hook on the module's class, which `changing` creates for it."""
    return lambda module: setattr(type(module), name, hook)


def zeroed(module: Net, *arguments: Any) -> None:
    module.net[0].weight.grad.zero_()


def noted(module: Net, *arguments: Any, **options: Any) -> None:
    module.notes.append((len(arguments), sorted(options), module._current_fx_name))


def doubled(module: Net, loss: Any) -> None:
    (2 * loss).backward()


def stepped(module: Net, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
    optimizer.step(closure=optimizer_closure)
    module.notes.append(batch_idx)


def a_callback(module: Net) -> None:
    module.trainer.callbacks.append(Notes())


def a_callbacks_hook(module: Net) -> None:
    callback: Any = module.trainer.callbacks[0]
    callback.on_after_backward = lambda trainer, module: zeroed(module)


def another_step(module: Any) -> None:
    module.training_step = lambda batch: module.loss(batch) * 2  # takes no index either


def another_layer(module: Any) -> None:
    module.net[1] = nn.Tanh()


def a_hooked_layer(module: Net) -> None:
    module.net[0].register_forward_hook(lambda layer, inputs, output: output * 2)


def an_error(module: Net) -> None:
    raise ValueError("something is wrong")


def an_interruption(module: Net) -> None:
    raise KeyboardInterrupt


def other_transfer(module: Net) -> None:
    module.trainer.datamodule.on_after_batch_transfer = (  # type: ignore[attr-defined]
        lambda batch, dataloader_idx: [batch[0] * 2, *batch[1:]]
    )


CHANGES: dict[str, Change] = {
    "new_optimizers": new_optimizers,
    "another_optimizer": another_optimizer,
    "another_in_the_list": another_in_the_list,
    "gradient_clip_val": setting("gradient_clip_val", 1e-3),
    "accumulate_grad_batches": setting("accumulate_grad_batches", 3),
    "log_every_n_steps": setting("log_every_n_steps", 1),
    "log_never": setting("log_every_n_steps", 0),
    "val_check_batch": setting("val_check_batch", 2),
    "no_validation": setting("limit_val_batches", 0),
    "should_stop": setting("should_stop", True),
    "fewer_steps": fewer_steps,
    "a_new_schedule": a_new_schedule,
    "another_schedule": another_schedule,
    "a_plateau_at_each_step": a_plateau_at_each_step,
    "other_moments": other_moments,
    "other_counts": other_counts,
    "no_moments": no_moments,
    "another_parameter": another_parameter,
    "another_group": another_group,
    "a_frozen_layer": a_frozen_layer,
    "rate": option("lr", 0.1),
    "betas": option("betas", (0.5, 0.9)),
    "rate_tensor": option("lr", torch.tensor(0.1)),
    "maximize": option("maximize", True),
    "not_fused": option("fused", False),
    "amsgrad": amsgrad,
    "a_pre_hook": a_pre_hook,
    "a_post_hook": a_post_hook,
    "everybodys_hook": everybodys_hook,
    "a_wrapped_step": a_wrapped_step,
    "a_wrapped_zero_grad": a_wrapped_zero_grad,
    "own_on_after_backward": own("on_after_backward", zeroed),
    "own_on_before_optimizer_step": own("on_before_optimizer_step", zeroed),
    "own_on_train_batch_end": own("on_train_batch_end", noted),
    "own_on_train_batch_start": own("on_train_batch_start", noted),
    "own_backward": own("backward", doubled),
    "own_optimizer_step": own("optimizer_step", stepped),
    "own_optimizer_zero_grad": own("optimizer_zero_grad", noted),
    "own_configure_gradient_clipping": own("configure_gradient_clipping", noted),
    "own_lr_scheduler_step": own("lr_scheduler_step", noted),
    "own_on_after_batch_transfer": own("on_after_batch_transfer", lambda module, batch, index: [-batch[0], batch[1]]),
    "class_on_after_backward": of_class("on_after_backward", zeroed),
    "class_optimizer_zero_grad": of_class("optimizer_zero_grad", noted),
    "class_on_before_zero_grad": of_class("on_before_zero_grad", noted),
    "class_optimizer_step": of_class("optimizer_step", stepped),
    "a_callback": a_callback,
    "a_callbacks_hook": a_callbacks_hook,
    "another_step": another_step,
    "another_layer": another_layer,
    "a_hooked_layer": a_hooked_layer,
    "an_error": an_error,
    "an_interruption": an_interruption,
    "other_transfer": other_transfer,
    "gradients_off": lambda module: torch.set_grad_enabled(False),
}

# Before the step, within it, and after it.
PLACES = ["on_train_batch_start", "training_step", "on_after_backward", "on_train_batch_end", "batch", "hook"]


class Changes(Callback):
    """Makes a change in one of its own hooks."""

    def __init__(self, hook: str, change: Change) -> None:
        def changes(trainer: Any, module: Any, *arguments: Any) -> None:
            module.change_at(STEP, change)

        setattr(self, hook, changes)


def changing(place: str, change: Change, **arguments: Any) -> Net:
    """A module with its own class, which makes a change once, at a given place in its step."""

    class Changing(Net):
        is_changed = False

        def change_at(self, step: int, change: Change) -> None:
            if self.global_step == step and not self.is_changed:
                self.is_changed = True
                change(self)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if place == "training_step":
                self.change_at(STEP, change)
            loss = super().training_step(batch, batch_idx)
            if place == "hook":  # of a tensor
                self.net[3].bias.register_hook(lambda gradient: self.change_at(STEP, change))
            return loss

        def on_fit_end(self) -> None:
            getattr(self, "undo", lambda: None)()

    return Changing(**arguments)


def changing_data(change: Change) -> Data:
    """Data that makes a change, once, while a batch is loaded."""

    class Changing(Data):
        def collate(self, items: list[Any]) -> Any:  # type: ignore[override]
            self.trainer.lightning_module.change_at(STEP, change)  # type: ignore[union-attr, operator]
            return stacked(items)

    return Changing()
