"""Records a training step's operations once and then replays them without autograd.

Much of a small network's step on a CPU is not arithmetic: Python's traversal of the modules, autograd's graph, memory
allocation. But each step makes the same calls with the same weights on another batch. So some steps are taken normally
while every operation below autograd is recorded with the tensors it reads and writes (recorded_step.py); once two were
the same, later steps call the same kernels in the same order on the same memory. This is to a CPU what CUDA graphs are
to a GPU, where stacked_steps.py uses those.

Only for modules whose own class promises by `pure_loss` that their loss depends only on batch and weights (not
inherited), and only for supported operations. The recorded step is replayed once before its weights change, from the
same random state: if a single bit of its outputs, gradients or random state differs, or anything is unsupported, steps
are taken normally. Each later epoch's first step is verified in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from studies.acceleration.training.optimizer_step import backward
from studies.acceleration.training.recorded_step import Computed, Program, Recorder, Unknown

RECORDED = 3  # maximum steps until two are the same: the first may initialize state


class Replay:
    """Computes gradients: first by `compute`, and once two steps made the same calls, by replaying them.

    Args:
        compute: computes a step's results from its batch.
        weights: the weights of the gradients.
        generators: random generators that it uses.

    Attributes:
        is_over: whether replaying was given up.
    """

    def __init__(
        self,
        compute: Callable[[Any], Computed],
        weights: Sequence[Tensor],
        generators: Sequence[torch.Generator] = (torch.default_generator,),
    ) -> None:
        self._compute, self._weights, self._generators = compute, weights, generators
        self._program: Program | None = None
        self._calls: list[Any] = []  # calls of the previous step
        self._recorded = 0
        self._is_sure = False  # whether the program was verified
        self.is_over = False

    def invalidate(self) -> None:
        """Requires the next step to verify the recording before it is replayed again: something may have changed."""
        self._is_sure = False

    def __call__(self, batch: Any) -> Computed | None:
        """Computes a step's results; the next step may overwrite the gradients.

        Returns:
            None if nothing was done because the step cannot be replayed.
        """
        if self.is_over:
            return None
        if self._program is None:
            return self._record(batch)
        if not self._program.fits(batch):
            return None
        if not self._is_sure:
            return self._check(self._program, batch)
        said = self._program.run(batch)
        return Computed([item.clone() for item in said], self._program.gradients)

    def _record(self, batch: Any) -> Computed:
        states = self._states()
        with Recorder() as recorder:
            computed = self._compute(batch)
        calls, before = recorder.without_tensors(), self._calls
        self._calls, self._recorded = calls, self._recorded + 1
        try:
            program = Program(recorder, batch, computed, self._weights, self._generators)
        except Unknown:
            self.is_over = True
            return computed
        if calls != before:
            self.is_over = self._recorded == RECORDED
            return computed
        found, self._is_sure = self._compared(program, batch, computed, states)
        self._program, self.is_over = program if self._is_sure else None, not self._is_sure
        return found

    def _check(self, program: Program, batch: Any) -> Computed:
        states = self._states()
        found, self._is_sure = self._compared(program, batch, self._compute(batch), states)
        if not self._is_sure:
            self._program, self._calls, self._recorded = None, [], 0
        return found

    def _compared(
        self, program: Program, batch: Any, computed: Computed, states: list[Tensor]
    ) -> tuple[Computed, bool]:
        """A copy of a step's results, and whether the program reproduces every bit from the same random states."""
        found = Computed([item.clone() for item in computed.said], [_copied(item) for item in computed.gradients])
        after = self._states()
        self._set(states)
        replayed = [*program.run(batch), *program.gradients]
        same = all(map(_is_same, [*found.said, *found.gradients, *after], [*replayed, *self._states()]))
        self._set(after)
        return found, same

    def _states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators]

    def _set(self, states: list[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)


class ReplayedModule:
    """Replays the training steps of a module for which is_replayable is true.

    Attributes:
        replay: the replay of its steps.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._parameters = list(module.parameters())
        self.replay = Replay(self._compute, self._parameters)

    def is_of(self, module: Any) -> bool:
        """Whether it replays this module's steps, with the same parameter objects."""
        now = list(module.parameters())
        return module is self._module and len(now) == len(self._parameters) and all(map(is_, now, self._parameters))

    def __call__(self, batch: Any) -> Tensor | None:
        """Computes a batch's gradients and stores its outputs, as a training step does.

        Returns:
            The loss, (), or None if nothing was done because the step cannot be replayed.
        """
        computed = self.replay(batch)
        if computed is None:
            return None
        for parameter, gradient in zip(self._parameters, computed.gradients, strict=True):
            parameter.grad = gradient
        loss, *outputs = computed.said
        self._module.add_training(*outputs)
        return loss

    def _compute(self, batch: Any) -> Computed:
        for parameter in self._parameters:
            parameter.grad = None
        loss, outputs = self._module.loss_and_outputs(batch)
        backward(loss)
        said = [loss.detach(), *(output.detach() for output in outputs)]
        return Computed(said, [parameter.grad for parameter in self._parameters])


def is_replayable(module: Any) -> bool:
    """Whether a module's class itself declares `pure_loss`, it is on a CPU, and its layers have no hooks."""
    return (
        bool(vars(type(module)).get("pure_loss"))  # not inherited: a subclass may have changed the loss
        and getattr(type(module).training_step, "is_of_loss_and_outputs", False)
        and all(p.device.type == "cpu" and p.layout is torch.strided for p in module.parameters())
        and not any(_is_heard(layer) for layer in module.modules())
        and not any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in module.parameters())
        and not torch_module._has_any_global_hook()
        and sys.gettrace() is None  # a debugger must be able to stop in each step
    )


def _is_heard(layer: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(layer, hook, None) for hook in hooks)


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
