"""A training step's operations, recorded once an epoch and then called again, without autograd around them.

Of a small network's step on a CPU much is not arithmetic: Python's walk through the modules, the graph that autograd
writes and reads, memory for each result. But each step is the same calls with the same weights, on another batch. So
some steps are taken as always, while every operation below autograd is written down with the tensors it read and
wrote; when two were the same, the next steps call the same kernels in the same order on the same memory. What CUDA
graphs are to a GPU, this is to a CPU; on a GPU stack_steps.py has those.

Only for modules that promise, by `packs_over`, that their loss is a function of batch and weights alone, and only of
operations in `CALLS`. The recorded step itself is called again before its weights change, from the same random
state: if a single bit of loss, outputs, gradients or random state differs, or anything is unknown, steps are taken
as before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_modules.summed_metrics import SummedMetrics
from studies.fast_step import backward

aten = torch.ops.aten

# Operation -> what writes its result into memory that is there, and the names of that in its call. PyTorch's own
# functions where there are some, for they are called faster than operations by their names.
CALLS: dict[Any, tuple[Callable[..., Any], tuple[str, ...]]] = {
    aten.addmm.default: (torch.addmm, ("out",)),
    aten.mm.default: (torch.mm, ("out",)),
    aten.add.Tensor: (torch.add, ("out",)),
    aten.sub.Tensor: (torch.sub, ("out",)),
    aten.mul.Tensor: (torch.mul, ("out",)),
    aten.div.Tensor: (torch.div, ("out",)),
    aten.sum.dim_IntList: (torch.sum, ("out",)),
    aten.relu.default: (partial(torch.clamp_min, min=0), ("out",)),  # which is how PyTorch does it
    aten.tanh.default: (torch.tanh, ("out",)),
    aten.sigmoid.default: (torch.sigmoid, ("out",)),
    aten.gelu.default: (torch._C._nn.gelu, ("out",)),
    aten.threshold_backward.default: (aten.threshold_backward.grad_input, ("grad_input",)),
    aten.tanh_backward.default: (aten.tanh_backward.grad_input, ("grad_input",)),
    aten.sigmoid_backward.default: (aten.sigmoid_backward.grad_input, ("grad_input",)),
    aten.gelu_backward.default: (aten.gelu_backward.grad_input, ("grad_input",)),
    aten._log_softmax.default: (aten._log_softmax.out, ("out",)),
    aten._log_softmax_backward_data.default: (aten._log_softmax_backward_data.out, ("out",)),
    aten.nll_loss_forward.default: (aten.nll_loss_forward.output, ("output", "total_weight")),
    aten.nll_loss_backward.default: (aten.nll_loss_backward.grad_input, ("grad_input",)),
    aten.mse_loss.default: (lambda *given, out: out.copy_(aten.mse_loss(*given)), ("out",)),  # it would resize `out`
    aten.mse_loss_backward.default: (aten.mse_loss_backward.grad_input, ("grad_input",)),
    aten.ones_like.default: (lambda like, *, out, **_: out.fill_(1), ("out",)),
    aten.le.Scalar_out: (torch.le, ()),
    aten.copy_.default: (Tensor.copy_, ()),
    aten.mul_.Scalar: (Tensor.mul_, ()),
    aten.mul_.Tensor: (Tensor.mul_, ()),
    aten.add_.Tensor: (Tensor.add_, ()),
    getattr(aten.random_, "from"): (Tensor.random_, ()),
    aten.bernoulli_.float: (Tensor.bernoulli_, ()),
    aten.div_.Scalar: (Tensor.div_, ()),
    aten.div_.Tensor: (Tensor.div_, ()),
}
# Those that may write their result over what they read.
ELEMENTWISE = (aten.relu.default, aten.threshold_backward.default, aten.mul.Tensor)
FILLS = (getattr(aten.random_, "from"), aten.bernoulli_.float)  # write all of a tensor, whatever was in it
RECORDED = 3  # steps, at most, until two are the same: the first may make what the others find
MAKES_ROOM = (aten.empty.memory_format, aten.empty_like.default, aten.new_empty_strided.default)


class Replay:
    """Computes a module's gradients: at first by autograd, and once two steps were the same calls by replaying them.

    Args:
        module: whose training steps are those of SummedMetrics; see `is_replayable`.

    Attributes:
        is_over: its steps cannot be replayed.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._program: _Program | None = None
        self._calls: list[Any] = []  # of the step before
        self._recorded = 0
        self.is_over = False

    def __call__(self, batch: Any) -> Tensor | None:
        """Sets the gradients of a batch and keeps its outputs, as a training step does; returns its loss, ().

        Returns:
            None: nothing was done, for it cannot be replayed.
        """
        if self.is_over:
            return None
        return self._record(batch) if self._program is None else self._program(batch)

    def _record(self, batch: Any) -> Tensor:
        module, parameters = self._module, list(self._module.parameters())
        for parameter in parameters:
            parameter.grad = None
        state = torch.get_rng_state()
        with _Recorder() as recorder:
            loss, outputs = module.loss_and_outputs(batch)
            backward(loss)
        calls, before = recorder.without_tensors(), self._calls
        self._calls, self._recorded = calls, self._recorded + 1
        program = _Program.of(recorder, module, batch, loss, outputs)
        self.is_over = program is None or (calls != before and self._recorded == RECORDED)
        if program is not None and calls == before:
            gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
            found, said = loss.detach().clone(), tuple(output.detach().clone() for output in outputs)
            after = torch.get_rng_state()
            torch.set_rng_state(state)
            program.run(batch)
            replayed = [program.loss, *program.outputs_of(batch), *(p.grad for p in parameters)]
            same = torch.equal(torch.get_rng_state(), after) and all(
                map(_is_same, [found, *said, *gradients], replayed)
            )
            torch.set_rng_state(after)
            self._program, self.is_over = program if same else None, not same
            loss, outputs = found, said
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        module.add_training(*outputs)
        return loss.detach()


def is_replayable(module: Any) -> bool:
    """Whether a module's class itself promises what is needed, it lies on a CPU, and nobody listens to its layers."""
    return (
        isinstance(module, SummedMetrics)
        and bool(vars(type(module)).get("packs_over"))  # a subclass may have changed what it inherits
        and type(module).training_step is SummedMetrics.training_step
        and all(p.device.type == "cpu" and p.layout is torch.strided for p in module.parameters())
        and not any(_is_heard(layer) for layer in module.modules())
        and not any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in module.parameters())
        and not torch_module._has_any_global_hook()
        and sys.gettrace() is None  # a debugger wants to stop in each step
    )


def _is_heard(layer: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(layer, hook, None) for hook in hooks)


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)


class _Recorder(TorchDispatchMode):
    """Writes down what is called below autograd. All tensors stay alive, so no two share memory by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Sequence[Any], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def without_tensors(self) -> list[Any]:
        """What was called, and with which numbers."""
        return [
            (func, [_constant(item) for item in args], {name: _constant(item) for name, item in kwargs.items()})
            for func, args, kwargs, _ in self.calls
        ]


class _Unknown(Exception):
    """Something that cannot be replayed."""


class _Input:
    """A view of one of the batch's tensors."""

    def __init__(self, place: int, view: Tensor, of: Tensor) -> None:
        self.place, self.shape, self.strides = place, tuple(view.shape), view.stride()
        self.offset = view.storage_offset() - of.storage_offset()
        self.is_whole = view.shape == of.shape and view.stride() == of.stride() and not self.offset

    def __call__(self, batch: Sequence[Tensor]) -> Tensor:
        tensor = batch[self.place]
        if self.is_whole:
            return tensor
        return tensor.as_strided(self.shape, self.strides, tensor.storage_offset() + self.offset)


class _Program:
    """The calls of a step. `loss`: where they leave it, ()."""

    @classmethod
    def of(
        cls, recorder: _Recorder, module: Any, batch: Any, loss: Tensor, outputs: Sequence[Tensor]
    ) -> _Program | None:
        """None if there is anything in the step that it doesn't know."""
        try:
            return cls(recorder, module, batch, loss, outputs)
        except _Unknown:
            return None

    def __init__(self, recorder: _Recorder, module: Any, batch: Any, loss: Tensor, outputs: Sequence[Tensor]) -> None:
        if type(batch) not in (tuple, list) or any(type(item) is not Tensor for item in batch):
            raise _Unknown
        self._module = module
        self._kinds = [_kind(item) for item in batch]
        self._batch = {_memory(item): (place, item) for place, item in enumerate(batch)}
        if len(self._batch) < len(batch):
            raise _Unknown  # two that share their memory could not be told apart
        self._made: set[int] = set()  # memory that the step itself asks for
        self._taken: dict[int, Tensor] = {}  # memory of a copied gradient -> what it is a copy of
        self._aliases: dict[int, Tensor] = {}
        self._calls: list[Callable[[], Any]] = []  # in their order; those on the batch are put in anew each time
        self._on_batch: list[tuple[int, Callable[..., Any], list[Any], dict[str, Any]]] = []
        self._moved: dict[int, Tensor] = {}  # memory -> what lies in its place
        last: dict[int, int] = {}  # memory -> the last call that reads or writes it
        for number, (_, args, kwargs, result) in enumerate(recorder.calls):
            of_call = (*args, *kwargs.values(), *(result if isinstance(result, tuple) else (result,)))
            last |= {_memory(item): number for item in of_call if isinstance(item, Tensor)}
        grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        self._last = last | {_memory(item): len(recorder.calls) for item in (loss, *outputs, *grads)}
        for number, call in enumerate(recorder.calls):
            self._add(number, *call)
        self.loss: Tensor = self._alias(loss)
        self._outputs: list[Any] = [self._bound(output) for output in outputs]
        self._gradients = []
        for parameter in module.parameters():
            if parameter.grad is not None:
                if _memory(parameter.grad) not in self._made:
                    raise _Unknown
                gradient = self._taken.pop(_memory(parameter.grad), parameter.grad)
                self._gradients.append((parameter, self._alias(gradient), parameter.data_ptr()))
        if self._taken or len({_memory(gradient) for _, gradient, _ in self._gradients}) < len(self._gradients):
            raise _Unknown

    def _add(self, number: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        results = result if isinstance(result, tuple) else (result,)
        if any(not isinstance(item, Tensor) for item in results) or kwargs.get("generator") is not None:
            raise _Unknown
        read = {_memory(item) for item in (*args, *kwargs.values()) if isinstance(item, Tensor)}
        writes = any(
            argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments
        )
        if not writes and all(_memory(item) in read for item in results):
            return  # a view: its memory is written by others
        if not writes:
            self._made |= {_memory(item) for item in results}
        if func in MAKES_ROOM:
            return
        if func is aten.copy_.default and self._is_of_recording(*args):
            self._taken[_memory(args[0])] = args[1]
            return
        if func not in CALLS or read & self._taken.keys():
            raise _Unknown
        if writes and func not in FILLS and any(_memory(item) not in self._made for item in results):
            raise _Unknown  # it changes what is there before and after the step
        if func in ELEMENTWISE:
            self._put_in_place(number, args, result)
        call, places = CALLS[func]
        bound = [self._bound(item) for item in args]
        named = {name: self._bound(item) for name, item in kwargs.items()}
        named |= dict(zip(places, map(self._bound, results), strict=False))
        if any(isinstance(item, _Input) for item in (*bound, *named.values())):
            self._on_batch.append((len(self._calls), call, bound, named))
        self._calls.append(partial(call, *bound, **named))

    def _put_in_place(self, number: int, args: Sequence[Any], result: Tensor) -> None:
        """Lets a result lie where something lay that is not needed any more: less memory, and more of it is cached."""
        for item in args:
            if (
                isinstance(item, Tensor)
                and _memory(item) in self._made
                and _kind(item) == _kind(result)
                and item.untyped_storage().nbytes() == result.untyped_storage().nbytes()
                and self._last[_memory(item)] == number
            ):
                self._moved[_memory(result)] = self._alias(item)
                return

    def _is_of_recording(self, copy: Tensor, of: Tensor, *how: Any) -> bool:
        """Whether autograd copied a gradient that it would have taken, had the recorder not held it too."""
        both_made = _memory(copy) in self._made and _memory(of) in self._made
        return both_made and not how and _kind(copy) == _kind(of) and _memory(of) not in self._taken

    def _bound(self, item: Any) -> Any:
        """What a call is given for it: itself, the same memory without autograd, or a view of the batch."""
        if not isinstance(item, Tensor):
            if isinstance(item, list | tuple) and any(isinstance(part, Tensor) for part in item):
                raise _Unknown
            return item
        if _memory(item) in self._batch:
            place, of = self._batch[_memory(item)]
            if item.dtype != of.dtype:
                raise _Unknown
            return _Input(place, item, of)
        return self._alias(item)

    def _alias(self, tensor: Tensor) -> Tensor:
        there = self._moved.get(_memory(tensor))
        if there is None:
            return self._aliases.setdefault(id(tensor), tensor.detach())
        return there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def __call__(self, batch: Any) -> Tensor | None:
        """The loss of a step, () and its own; None if this batch or the weights are of another kind."""
        if [_kind(item) for item in batch] != self._kinds or any(
            parameter.data_ptr() != pointer for parameter, _, pointer in self._gradients
        ):
            return None
        self.run(batch)
        self._module.add_training(*(output.clone() for output in self.outputs_of(batch)))
        return self.loss.clone()

    def run(self, batch: Any) -> None:
        calls = self._calls
        before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            for place, call, args, named in self._on_batch:
                given = [_given(item, batch) for item in args]
                calls[place] = partial(call, *given, **{name: _given(item, batch) for name, item in named.items()})
            for operation in calls:
                operation()
        finally:
            torch._C._set_grad_enabled(before)
        for parameter, gradient, _ in self._gradients:
            parameter.grad = gradient

    def outputs_of(self, batch: Any) -> list[Tensor]:
        """Where they leave the outputs; the next step overwrites them."""
        return [_given(item, batch) for item in self._outputs]


def _constant(item: Any) -> Any:
    return _kind(item) if isinstance(item, Tensor) else item


def _given(item: Any, batch: Sequence[Tensor]) -> Any:
    return item(batch) if type(item) is _Input else item


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _kind(tensor: Any) -> Any:
    return type(tensor), tensor.shape, tensor.dtype, tensor.stride()
