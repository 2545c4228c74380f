"""One optimizer's step for all models of a stack, each with its own learning rate and weight decay.

K small models' optimizers take longer to be called than to compute. What they compute is linear in the learning
rate: so PyTorch's own optimizer, at a learning rate of 1, takes its step on a stack of zeros, which becomes the
direction, and each model goes its own way along it. There is no second implementation of an optimizer. Each model
keeps its own, whose moments become views of the stacked ones: a step of its own, or a checkpoint, finds in them
what it would have found.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from studies.stack import Stack

LINEAR = (SGD, Adam, AdamW, RMSprop)  # in the learning rate
OWN = {"params", "param_names", "lr", "initial_lr", "weight_decay"}  # of a parameter group; all else is in common
SMALL = 2**16  # weights of a model; above, on a CPU, the detour costs more memory traffic than it saves calls

Group = dict[str, Any]


class StackedOptimizer:
    """The optimizers of a stack's models as one.

    Args:
        stack: of the models.
        optimizers: theirs, each of which has taken a step.

    Raises:
        ValueError: they cannot be taken as one; says why.
    """

    def __init__(self, stack: Stack, optimizers: list[Optimizer]) -> None:
        self.stack, self.optimizers = stack, optimizers
        first = optimizers[0]
        if any(type(optimizer) is not type(first) for optimizer in optimizers) or type(first) not in LINEAR:
            raise ValueError("the optimizers are not of one class, or of one that is not known here")
        self._groups = {name: _groups_of(optimizers, owners) for name, owners in stack.owners.items()}
        options = _in_common([group for groups in self._groups.values() for group in groups])
        self._decoupled = bool(options.get("decoupled_weight_decay"))
        self._directions = {name: torch.zeros_like(stack.parameters[name]).detach() for name in stack.owners}
        options = {name: options[name] for name in inspect.signature(type(first)).parameters if name in options}
        directions, kind = list(self._directions.values()), type(first)
        self._optimizer = kind(directions, lr=1.0, weight_decay=0.0, **options)  # type: ignore[call-arg]
        self._moments: list[tuple[Optimizer, Tensor, str, Tensor]] = []  # whose, of what, the moment's name, its slice
        self._steps: list[Tensor] = []  # of all models
        for name, owners in stack.owners.items():
            states = [optimizer.state.get(owner, {}) for optimizer, owner in zip(optimizers, owners, strict=True)]
            if not (all(states) or (type(first) is SGD and not options["momentum"])):
                raise ValueError("an optimizer has not begun, or a weight has no gradient")
            self._optimizer.state[self._directions[name]] = self._stacked(states)
            for optimizer, owner, state in zip(optimizers, owners, states, strict=True):
                moments = {key: value for key, value in state.items() if key != "step" and value is not None}
                self._moments += [(optimizer, owner, key, value) for key, value in moments.items()]
        self._factors: dict[tuple[int, ...], tuple[list[Any], Tensor, Tensor | None]] = {}

    def _stacked(self, states: list[Group]) -> Group:
        """One parameter's state of all models, whose own become views of it."""
        if any(state.keys() != states[0].keys() for state in states):
            raise ValueError("the optimizers have not come equally far")
        stacked: Group = {}
        for key, like in states[0].items():
            if key == "step":
                self._steps += [state[key] for state in states]
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
        """Whether these are still the optimizers of that stack, and their moments lie here."""
        if self.stack is not stack or self.optimizers != optimizers:
            return False
        return all(optimizer.state[owner].get(key) is view for optimizer, owner, key, view in self._moments)

    def begin(self) -> bool:
        """Goes on where the models' optimizers stand; returns whether they all stand at one step."""
        if self._steps:
            steps = torch.stack(self._steps)
            if not bool((steps == steps[0]).all()):
                return False
            for state in self._optimizer.state.values():
                state["step"].copy_(steps[0])
        return True

    @torch.no_grad()
    def step(self) -> None:
        """Takes all models' steps along the stack's gradients."""
        ways = []
        for name, direction in self._directions.items():
            gradient, weights = self.stack.gradients[name], self.stack.parameters[name]
            direction.grad = gradient
            if gradient is None:
                continue
            rates, decays = self._factors_of(name, weights.dim())
            if decays is not None and self._decoupled:
                weights.mul_(1 - rates * decays)
            elif decays is not None:
                gradient.addcmul_(weights, decays)
            ways.append((weights, direction, rates))
        self._optimizer.step()
        for weights, direction, rates in ways:
            weights.addcmul_(direction, rates)
            direction.zero_()

    def end(self, steps: int) -> None:
        """Tells the models' optimizers how many steps they have taken."""
        if self._steps:
            torch._foreach_add_(self._steps, float(steps))

    def _factors_of(self, name: str, dimensions: int) -> tuple[Tensor, Tensor | None]:
        """Learning rates and weight decays (None: none decays) of all models, (K, 1, ...)."""
        groups = self._groups[name]
        now = [(group["lr"], group["weight_decay"]) for group in groups]
        place = (dimensions, *map(id, groups))
        known = self._factors.get(place)
        if known is None or known[0] != now:
            like = self.stack.parameters[name]
            rates, decays = torch.tensor(now, dtype=like.dtype, device=like.device).unbind(1)
            shape = (len(groups), *[1] * (dimensions - 1))
            known = now, rates.view(shape), decays.view(shape) if any(decay for _, decay in now) else None
            self._factors[place] = known
        return known[1], known[2]


def _groups_of(optimizers: list[Optimizer], owners: list[Any]) -> list[Group]:
    """Each model's parameter group in which its parameter is."""
    found = [
        next((group for group in optimizer.param_groups if any(owner is one for one in group["params"])), None)
        for optimizer, owner in zip(optimizers, owners, strict=True)
    ]
    if None in found:
        raise ValueError("an optimizer leaves out a weight that has a gradient")
    return found  # type: ignore[return-value]


def _in_common(groups: list[Group]) -> Group:
    options = [{name: value for name, value in group.items() if name not in OWN} for group in groups]
    if any(one != options[0] for one in options):
        raise ValueError("the optimizers differ in more than learning rate and weight decay")
    if options[0].get("maximize") or options[0].get("differentiable"):
        raise ValueError("they maximize, or are to be differentiated")
    if any(isinstance(group["lr"], Tensor) for group in groups):
        raise ValueError("a learning rate is a tensor")
    return options[0]


def pays(stack: Stack) -> bool:
    """Whether one step for all is faster than one after the other."""
    weights = [stack.parameters[name] for name in stack.owners]
    return weights[0].is_cuda or sum(weight[0].numel() for weight in weights) <= SMALL


def joined(stack: Stack, optimizers: list[Optimizer]) -> StackedOptimizer | None:
    """The optimizers as one, or None where that cannot be or does not pay."""
    listened = (optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks for optimizer in optimizers)
    if not pays(stack) or any(listened):
        return None
    try:
        return StackedOptimizer(stack, optimizers)
    except ValueError:
        return None
