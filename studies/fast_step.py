"""A step's gradients and its optimizer, without what PyTorch's Python does around its kernels at each step.

A small model's step takes some 700 µs on a CPU, of which 80 are spent on finding out, again, what was so at the step
before: whether there are hooks, which parameters have states, on which devices they lie. Here the same kernels are
called with the same tensors, so every bit is the same (tests/test_fast_step.py); where anything is unusual, PyTorch's
own methods are called.

It is written against the inside of PyTorch 2.15, and falls back to its methods where that has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

PLAIN = {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False, "fused": True}


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
    """What does the same as `optimizer.step`, as fast as may be."""
    known = type(optimizer) in (Adam, AdamW) and hasattr(torch, "_fused_adam_") and hasattr(torch, "_fused_adamw_")
    return FusedAdam(optimizer).step if known else optimizer.step


class _Group(NamedTuple):
    """A parameter group with its tensors in the order of its parameters."""

    options: dict[str, Any]
    parameters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]
    counted: Tensor  # the same in one, so that all are counted at once: one by one on a CPU takes 5 µs each


class FusedAdam:
    """Takes steps of an Adam or AdamW.

    Args:
        optimizer: from time to time its own `step` is called, for example at its first.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups: list[_Group] = []

    def step(self) -> None:
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            self._step()
        finally:
            torch._C._set_grad_enabled(before)

    def _step(self) -> None:
        groups = self._groups if self._is_current() else self._gather()
        gradients = [[parameter.grad for parameter in group.parameters] for group in groups]
        if not groups or any(gradient is None for of_group in gradients for gradient in of_group) or self._is_heard():
            self._optimizer.step()
            return
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

    def _is_current(self) -> bool:
        """Whether the tensors are still the optimizer's: a state that is loaded, or stacked, is another one."""
        groups, states = self._optimizer.param_groups, self._optimizer.state
        return len(groups) == len(self._groups) and all(
            group.options is options
            and len(group.parameters) == len(options["params"])
            and states[group.parameters[0]].get("exp_avg") is group.first[0]
            for group, options in zip(self._groups, groups, strict=True)
        )

    def _gather(self) -> list[_Group]:
        self._groups = []
        gathered = []
        for options in self._optimizer.param_groups:
            parameters = list(options["params"])
            states = [self._optimizer.state.get(parameter, {}) for parameter in parameters]
            plain = all(bool(options[name]) == value for name, value in PLAIN.items())
            scalars = (options["lr"], *options["betas"], options["eps"], options["weight_decay"])
            places = {(parameter.device, parameter.dtype) for parameter in parameters}
            if not (states and all(states) and plain and len(places) == 1) or any(
                isinstance(scalar, Tensor) for scalar in scalars
            ):
                return []
            first, second = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
            counted = torch.stack([state["step"] for state in states])
            steps = list(counted.unbind())
            for state, step in zip(states, steps, strict=True):
                state["step"] = step
            gathered.append(_Group(options, parameters, first, second, steps, counted))
        self._groups = gathered
        return gathered

    def _is_heard(self) -> bool:
        """Whether somebody listens to the optimizer's steps."""
        optimizer = self._optimizer
        return bool(
            optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
        )
