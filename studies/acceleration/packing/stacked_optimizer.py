"""One optimizer step for all models of a stack, each with its own learning rate and weight decay.

For K small models, calling the optimizers takes longer than their arithmetic. An update is linear in the learning rate:
so PyTorch's own optimizer takes a step with learning rate 1 on a stack of zeros, which yields the direction, and each
model moves along it by its own learning rate. There is no second implementation of an optimizer. Each model keeps its
own optimizer, whose moments become views of the stacked ones, so its own steps and checkpoints see the usual values.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim import optimizer as torch_optimizer

from studies.acceleration.packing.stacked_module import Stack
from studies.acceleration.training.optimizer_step import stepper

LINEAR = (SGD, Adam, AdamW, RMSprop)  # optimizers whose update is linear in the learning rate
OWN = {"params", "param_names", "lr", "initial_lr", "weight_decay"}  # options of a group that may differ

Group = dict[str, Any]


class OptionsChanged(Exception):
    """Something other than learning rates and weight decays has changed."""


class StackedOptimizer:
    """The optimizers of a stack's models as one.

    Args:
        stack: the models' stack.
        optimizers: the models', each after the same number of steps, at least one.

    Raises:
        ValueError: they cannot be stacked; the message says why.
    """

    def __init__(self, stack: Stack, optimizers: list[Optimizer]) -> None:
        self.stack, self.optimizers = stack, optimizers
        first = optimizers[0]
        if any(type(optimizer) is not type(first) for optimizer in optimizers) or type(first) not in LINEAR:
            raise ValueError("the optimizers are not of one supported class")
        if any(_is_heard(optimizer) for optimizer in optimizers):
            raise ValueError("an optimizer has step hooks")
        groups = {name: _groups_of(optimizers, owners) for name, owners in stack.owners.items()}
        options = self._options = _in_common([group for of_weight in groups.values() for group in of_weight])
        states = {name: _states_of(optimizers, owners) for name, owners in stack.owners.items()}
        self._steps = [state["step"] for of_weight in states.values() for state in of_weight if "step" in state]
        if self._steps and len(torch.stack(self._steps).unique()) > 1:
            raise ValueError("the optimizers have taken different numbers of steps")

        self._decoupled = bool(options.get("decoupled_weight_decay"))
        self._directions = {name: torch.zeros_like(stack.parameters[name]).detach() for name in stack.owners}
        known = inspect.signature(type(first)).parameters
        options = {name: options[name] for name in known if name in options}
        if "capturable" in known:
            options["capturable"] = next(iter(self._directions.values())).is_cuda  # for CUDA graphs
        self._optimizer = type(first)(list(self._directions.values()), lr=1.0, weight_decay=0.0, **options)  # type: ignore[call-arg]
        # Avoids its warning about first steps outside a graph.
        self._optimizer._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]
        self._take_step = stepper(self._optimizer)
        self._moments: list[tuple[Optimizer, Tensor, str, Tensor]] = []  # optimizer, parameter, moment's name, slice
        for name, owners in stack.owners.items():
            self._optimizer.state[self._directions[name]] = self._stacked(states[name])
            for optimizer, owner, state in zip(optimizers, owners, states[name], strict=True):
                moments = {key: value for key, value in state.items() if key != "step" and value is not None}
                self._moments += [(optimizer, owner, key, value) for key, value in moments.items()]

        self._all_groups = _identities(optimizers)
        self._groups: dict[tuple[int, ...], list[Group]] = {}  # corresponding groups, one per model
        self._place: dict[str, tuple[int, ...]] = {}  # weight -> key of its groups
        for name, of_weight in groups.items():
            self._place[name] = tuple(map(id, of_weight))
            self._groups[self._place[name]] = of_weight
        like = next(iter(self._directions.values()))
        size = (len(self._groups), len(optimizers))
        self._rates = torch.zeros(size, dtype=like.dtype, device=like.device)
        self._decays = torch.zeros_like(self._rates)
        self._written: list[list[tuple[float, float]]] = []  # current learning rates and weight decays
        self._decaying: set[tuple[int, ...]] = set()

    def _stacked(self, states: list[Group]) -> Group:
        """One parameter's stacked state; the models' states become views of it."""
        stacked: Group = {}
        for key, like in states[0].items():
            if key == "step":
                stacked[key] = like.clone()
            elif like is None:
                stacked[key] = None
            else:
                size = (len(states), *like.shape)
                together = torch.empty_strided(
                    size, (like.numel(), *like.stride()), dtype=like.dtype, device=like.device
                )
                for state, view in zip(states, together.unbind(0), strict=True):
                    state[key] = view.copy_(state[key])
                stacked[key] = together
        return stacked

    def is_intact(self, stack: Stack, optimizers: list[Optimizer]) -> bool:
        """Whether these are still that stack's optimizers, and their moments still views of these."""
        if self.stack is not stack or self.optimizers != optimizers or any(map(_is_heard, optimizers)):
            return False
        if _identities(optimizers) != self._all_groups:
            return False
        return all(optimizer.state[owner].get(key) is view for optimizer, owner, key, view in self._moments)

    def begin(self) -> None:
        """Synchronizes with the models' optimizers, which must have taken equally many steps."""
        if self._steps:
            for state in self._optimizer.state.values():
                state["step"].copy_(self._steps[0])
        self.read_rates()

    def read_rates(self) -> bool:
        """Reads the models' learning rates and weight decays; returns whether the set of decaying models changed.

        Raises:
            OptionsChanged: another option has changed.
        """
        if any(_others(group) != self._options for groups in self._groups.values() for group in groups):
            raise OptionsChanged
        now = [[(group["lr"], group["weight_decay"]) for group in groups] for groups in self._groups.values()]
        if now == self._written:
            return False
        rates, decays = torch.tensor(now, dtype=self._rates.dtype).unbind(2)
        self._rates.copy_(rates)
        self._decays.copy_(decays)
        self._written, before = now, self._decaying
        self._decaying = {
            place for place, pairs in zip(self._groups, now, strict=True) if any(decay for _, decay in pairs)
        }
        return before != self._decaying

    @torch.no_grad()
    def step(self) -> None:
        """Takes all models' steps with the stack's gradients."""
        ways = []
        rates_of, decays_of = (dict(zip(self._groups, values, strict=True)) for values in (self._rates, self._decays))
        for name, direction in self._directions.items():
            gradient, weights, place = self.stack.gradients[name], self.stack.parameters[name], self._place[name]
            if gradient is None:
                direction.grad = None
                continue
            shape = (len(weights), *[1] * (weights.dim() - 1))
            rates, decays = rates_of[place].view(shape), decays_of[place].view(shape)
            if place in self._decaying and self._decoupled:
                weights.mul_(1 - rates * decays)
            elif place in self._decaying:
                gradient = gradient.addcmul(weights, decays)
            direction.grad = gradient
            ways.append((weights, direction, rates))
        self._take_step()
        for weights, direction, rates in ways:
            weights.addcmul_(direction, rates)
            direction.zero_()

    def end(self, steps: int) -> None:
        """Updates the step counts of the models' optimizers."""
        if self._steps:
            torch._foreach_add_(self._steps, float(steps))


def _groups_of(optimizers: list[Optimizer], owners: list[Any]) -> list[Group]:
    """The parameter group of each model's parameter."""
    found = [
        next((group for group in optimizer.param_groups if any(owner is one for one in group["params"])), None)
        for optimizer, owner in zip(optimizers, owners, strict=True)
    ]
    if None in found:
        raise ValueError("an optimizer leaves out a weight that has a gradient")
    return found  # type: ignore[return-value]


def _identities(optimizers: list[Optimizer]) -> list[int]:
    return [id(group) for optimizer in optimizers for group in optimizer.param_groups]


def _in_common(groups: list[Group]) -> Group:
    options = [_others(group) for group in groups]
    if any(one != options[0] for one in options):
        raise ValueError("the optimizers differ in more than learning rate and weight decay")
    if options[0].get("maximize") or options[0].get("differentiable"):
        raise ValueError("maximize and differentiable are not supported")
    if any(isinstance(group["lr"], Tensor) for group in groups):
        raise ValueError("a learning rate is a tensor")
    return options[0]


def _others(group: Group) -> Group:
    return {name: value for name, value in group.items() if name not in OWN}


def _states_of(optimizers: list[Optimizer], owners: list[Any]) -> list[Group]:
    """Each model's optimizer state of its parameter."""
    states = [optimizer.state.get(owner, {}) for optimizer, owner in zip(optimizers, owners, strict=True)]
    stateless = type(optimizers[0]) is SGD and not optimizers[0].param_groups[0]["momentum"]
    if not all(states) and not stateless:
        raise ValueError("an optimizer has no state yet, or a weight has no gradient")
    kinds = [{key: value is None for key, value in state.items()} for state in states]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("the optimizers have taken different numbers of steps")
    return states


def _is_heard(optimizer: Any) -> bool:
    """Whether an optimizer has step hooks."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(own or torch_optimizer._global_optimizer_pre_hooks or torch_optimizer._global_optimizer_post_hooks)
