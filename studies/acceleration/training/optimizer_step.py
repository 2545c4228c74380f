"""Backward pass and optimizer step without PyTorch's per-step Python overhead around its kernels.

A small model's step takes about 700 µs on a CPU, of which 80 µs re-check what was true at the previous step: hooks,
parameters with states, devices. Here the same kernels are called with the same tensors, so results are bit-identical
(test_optimizer_step.py); in unusual cases, PyTorch's own methods are called. This is checked at each step, since an
optimizer may get a hook, another `step`, other moments or parameters at any time.

Relies on internals of PyTorch 2.15, and falls back to its methods if they have changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import chain
from operator import is_, itemgetter
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer
from torch.optim.lr_scheduler import StepLR

PLAIN = {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False, "fused": True}
FLAGS, PLAIN_FLAGS = itemgetter(*PLAIN), tuple(PLAIN.values())
RATES = itemgetter("lr", "weight_decay", "eps")
NUMBERS = {float, int}


def backward(loss: Tensor) -> None:
    """`loss.backward()`."""
    if type(loss) is Tensor and loss.dim() == 0 and _ENGINE is not None:
        _ENGINE((loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True)
    else:
        loss.backward()


_ENGINE: Callable[..., Any] | None = getattr(
    getattr(torch.autograd.Variable, "_execution_engine", None), "run_backward", None
)


def stepper(optimizer: Optimizer) -> Callable[[], Any]:
    """Returns a callable equivalent to `optimizer.step`, fused if the optimizer is a plain Adam or AdamW."""
    return FusedAdam(optimizer).step if is_known(optimizer) else optimizer.step


def is_known(optimizer: Optimizer) -> bool:
    """Whether its steps can be taken here."""
    return type(optimizer) in (Adam, AdamW) and hasattr(torch, "_fused_adam_") and hasattr(torch, "_fused_adamw_")


class _Group(NamedTuple):
    """A parameter group with its tensors in the order of its parameters."""

    options: dict[str, Any]
    parameters: list[Tensor]
    states: list[dict[str, Tensor]]
    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]
    counted: Tensor  # all step counts in one tensor, updated at once: separately, each takes 5 µs on a CPU


class _Tensors(NamedTuple):
    """An optimizer's tensors, in the order of its state."""

    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]


class FusedAdam:
    """Takes steps of an Adam or AdamW.

    Args:
        optimizer: its own `step` is still called sometimes, e.g. the first time.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._fields = vars(optimizer)
        self._groups: list[_Group] = []
        self._keys: list[Any] = []  # keys of the optimizer's state when the groups were gathered
        self._states: list[Any] = []
        self._tensors = _Tensors([], [], [])  # tensors of these states
        self._wrapper: Any = None  # a scheduler's wrapper around the class's `step`

    def step(self) -> None:
        """Equivalent to `optimizer.step()`."""
        if self.is_untouched():
            self.take()
        else:
            self._optimizer.step()

    def is_untouched(self) -> bool:
        """Whether the optimizer's own `step` would now only call the fused kernels."""
        fields = self._fields
        step = fields.get("step")
        return (
            (step is None or step is self._wrapper or self._is_wrapped_by_scheduler(step))
            and "zero_grad" not in fields
            and "grad_scale" not in fields
            and "found_inf" not in fields
            and not fields["_optimizer_step_pre_hooks"]
            and not fields["_optimizer_step_post_hooks"]
            and not torch_optimizer._global_optimizer_pre_hooks
            and not torch_optimizer._global_optimizer_post_hooks
            and not torch.autograd._profiler_enabled()
            and fields["param_groups"][0].get("fused")
        )

    def take(self) -> None:
        """Takes the step, as the class's `step` does after calling its closure."""
        optimizer = self._optimizer
        if self._wrapper is not None:
            self._fields["_opt_called"] = True  # as the wrapper does
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            taken = self._take()
        finally:
            torch._C._set_grad_enabled(before)
        if not taken:
            type(optimizer).step.__wrapped__(optimizer)  # type: ignore[attr-defined]  # it has called its pre-hooks
        # A hook may have been added since the step began.
        own, everybodys = self._fields["_optimizer_step_post_hooks"], torch_optimizer._global_optimizer_post_hooks
        if own or everybodys:
            for hook in chain(own.values(), everybodys.values()):
                hook(optimizer, (optimizer,), {})

    def _take(self) -> bool:
        groups = self._groups if self._is_current() else self._gather()
        gradients = [[parameter.grad for parameter in group.parameters] for group in groups]
        if not groups or any(gradient is None for of_group in gradients for gradient in of_group):
            return False
        for group, of_group in zip(groups, gradients, strict=True):
            options = group.options
            group.counted.add_(1)
            kernel = torch._fused_adamw_ if options["decoupled_weight_decay"] else torch._fused_adam_
            kernel(
                group.parameters,
                of_group,  # type: ignore[arg-type]
                group.first,
                group.second,
                [],
                group.steps,
                amsgrad=False,
                lr=options["lr"],
                beta1=options["betas"][0],
                beta2=options["betas"][1],
                weight_decay=options["weight_decay"],
                eps=options["eps"],
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )
        return True

    def _is_current(self) -> bool:
        """Whether all tensors and options are still the optimizer's, any of which may be replaced."""
        groups, state, tensors = self._optimizer.param_groups, self._optimizer.state, self._tensors
        if not (self._groups and len(groups) == len(self._groups) and len(state) == len(self._keys)):
            return False
        for group, options in zip(self._groups, groups, strict=True):
            parameters = options["params"]
            if not (
                group.options is options
                and _is_plain(options)
                and len(parameters) == len(group.parameters)
                and all(map(is_, parameters, group.parameters))
            ):
                return False
        # Keys and states are compared in order, which is faster than look-ups.
        states = self._states
        return (
            all(map(is_, state, self._keys))
            and all(map(is_, state.values(), states))
            and all(map(is_, map(FIRST, states), tensors.first))
            and all(map(is_, map(SECOND, states), tensors.second))
            and all(map(is_, map(STEP, states), tensors.steps))
        )

    def _gather(self) -> list[_Group]:
        self._groups = []
        gathered, seen = [], 0
        for options in self._optimizer.param_groups:
            parameters = list(options["params"])
            states = [self._optimizer.state.get(parameter, {}) for parameter in parameters]
            places = {(parameter.device, parameter.dtype) for parameter in parameters}
            if not (states and all(map(_is_begun, states)) and _is_plain(options) and len(places) == 1):
                return []
            seen += len(states)
            first, second = list(map(FIRST, states)), list(map(SECOND, states))
            counted = torch.stack(list(map(STEP, states)))
            steps = list(counted.unbind())
            for state, step in zip(states, steps, strict=True):
                state["step"] = step
            gathered.append(_Group(options, parameters, states, first, second, steps, counted))
        self._keys, self._states = list(self._optimizer.state), list(self._optimizer.state.values())
        if len(self._states) == seen:  # else there are states of tensors that are in no group
            self._groups = gathered
            self._tensors = _Tensors(*(list(map(name, self._states)) for name in (FIRST, SECOND, STEP)))
        return gathered

    def _is_wrapped_by_scheduler(self, step: Any) -> bool:
        """Whether a `step` set on the optimizer is a learning rate scheduler's wrapper of the class's own.

        A user's wrapper may look like one (functools.wraps copies attributes), so its code object is compared.
        """
        self._wrapper = None
        is_theirs = type(step) is FunctionType and step.__code__ is schedulers_wrapper()
        if is_theirs and getattr(step, "__wrapped__", None) is type(self._optimizer).step:
            self._wrapper = step
        return self._wrapper is not None


FIRST, SECOND, STEP = itemgetter("exp_avg"), itemgetter("exp_avg_sq"), itemgetter("step")


def _is_plain(options: dict[str, Any]) -> bool:
    """Whether a parameter group's options are supported by the kernels here, and none is a tensor."""
    betas = options["betas"]
    return (
        FLAGS(options) == PLAIN_FLAGS
        and NUMBERS.issuperset(map(type, RATES(options)))
        and type(betas[0]) is type(betas[1]) is float
    )


def _is_begun(state: dict[str, Any]) -> bool:
    return all(isinstance(state.get(name), Tensor) for name in ("exp_avg", "exp_avg_sq", "step"))


@functools.cache
def schedulers_wrapper() -> CodeType | None:
    """The code of the `step` that a learning rate scheduler sets on its optimizer."""
    optimizer = SGD([torch.zeros(1)], lr=1.0)
    StepLR(optimizer, 1)
    return getattr(vars(optimizer).get("step"), "__code__", None)
