"""The recorded calls of a step below autograd, to be repeated on the same memory.

Each result is written into the recorded result's memory, views are the recorded ones, and the batch is replaced. Only
the operations in `CALLS` are supported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# Operation -> a function that writes the result into existing memory, and the names of its output arguments. PyTorch's
# Python-level functions if available, since they are called faster than operators.
CALLS: dict[Any, tuple[Callable[..., Any], tuple[str, ...]]] = {
    aten.addmm.default: (torch.addmm, ("out",)),
    aten.mm.default: (torch.mm, ("out",)),
    aten.bmm.default: (torch.bmm, ("out",)),
    aten.add.Tensor: (torch.add, ("out",)),
    aten.sub.Tensor: (torch.sub, ("out",)),
    aten.mul.Tensor: (torch.mul, ("out",)),
    aten.div.Tensor: (torch.div, ("out",)),
    aten.div.Scalar: (torch.div, ("out",)),
    aten.neg.default: (torch.neg, ("out",)),
    aten.ne.Scalar: (torch.ne, ("out",)),
    aten.where.self: (torch.where, ("out",)),
    aten.gather.default: (torch.gather, ("out",)),
    aten.scatter_add.default: (torch.scatter_add, ("out",)),
    aten.sum.default: (aten.sum.out, ("out",)),
    aten.mean.dim: (torch.mean, ("out",)),
    aten.sum.dim_IntList: (torch.sum, ("out",)),
    aten.relu.default: (partial(torch.clamp_min, min=0), ("out",)),  # PyTorch's own implementation
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
    aten.mse_loss.default: (lambda *given, out: out.copy_(aten.mse_loss(*given)), ("out",)),  # .out resizes
    aten.mse_loss_backward.default: (aten.mse_loss_backward.grad_input, ("grad_input",)),
    aten.ones_like.default: (lambda like, *, out, **_: out.fill_(1), ("out",)),
    aten.new_zeros.default: (lambda like, size, *, out, **_: out.zero_(), ("out",)),
    aten._to_copy.default: (lambda of, *, out, **_: out.copy_(of), ("out",)),
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
# Operations whose result may overwrite their input.
ELEMENTWISE = (aten.relu.default, aten.threshold_backward.default, aten.mul.Tensor)
FILLS = (getattr(aten.random_, "from"), aten.bernoulli_.float)  # overwrite a whole tensor
MAKES_ROOM = (aten.empty.memory_format, aten.empty_like.default, aten.new_empty_strided.default)
CONSTANTS = (aten.scalar_tensor.default, aten._to_copy.default)  # if they read no tensor


class Computed(NamedTuple):
    """The results of a step: reported tensors (losses, outputs), and its weights' gradients."""

    said: Sequence[Tensor]
    gradients: Sequence[Tensor | None]


class Unknown(Exception):
    """The step contains something that cannot be replayed."""


class Recorder(TorchDispatchMode):
    """Records all calls below autograd. Keeps all tensors alive, so no two share memory by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Sequence[Any], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def without_tensors(self) -> list[Any]:
        """The calls, with non-tensor arguments."""
        return [
            (func, [_constant(item) for item in args], {name: _constant(item) for name, item in kwargs.items()})
            for func, args, kwargs, _ in self.calls
        ]


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


class Program:
    """The calls of a step.

    Args:
        recorder: recorder of one step.
        batch: its tensors.
        computed: its results.
        weights: the weights of its gradients.
        generators: random generators that it may use.

    Raises:
        Unknown: the step contains something unsupported.
    """

    def __init__(
        self,
        recorder: Recorder,
        batch: Any,
        computed: Computed,
        weights: Sequence[Tensor],
        generators: Sequence[torch.Generator],
    ) -> None:
        if type(batch) not in (tuple, list) or any(type(item) is not Tensor for item in batch):
            raise Unknown
        self._kinds = [_kind(item) for item in batch]
        self._batch = {_memory(item): (place, item) for place, item in enumerate(batch)}
        if len(self._batch) < len(batch):
            raise Unknown  # tensors that share memory cannot be told apart
        self._generators = {_constant(generator) for generator in generators}
        self._made: set[int] = set()  # memory allocated by the step
        self._taken: dict[int, Tensor] = {}  # memory of a copied gradient -> the original
        self._aliases: dict[int, Tensor] = {}
        self._calls: list[Callable[[], Any]] = []  # in order; batch arguments are replaced each time
        self._on_batch: list[tuple[int, Callable[..., Any], list[Any], dict[str, Any]]] = []
        self._moved: dict[int, Tensor] = {}  # memory -> the tensor that replaces it
        last: dict[int, int] = {}  # memory -> the last call that reads or writes it
        for number, (_, args, kwargs, result) in enumerate(recorder.calls):
            of_call = (*args, *kwargs.values(), *_results(result))
            last |= {_memory(item): number for item in of_call if isinstance(item, Tensor)}
        gradients = [gradient for gradient in computed.gradients if gradient is not None]
        self._of_gradients = {_memory(gradient) for gradient in gradients}
        self._last = last | {_memory(item): len(recorder.calls) for item in (*computed.said, *gradients)}
        for number, call in enumerate(recorder.calls):
            self._add(number, *call)
        self._said: list[Any] = [self._bound(said) for said in computed.said]
        if any(_memory(gradient) not in self._made for gradient in gradients):
            raise Unknown
        gradients = [self._taken.pop(_memory(gradient), gradient) for gradient in gradients]
        if self._taken or len({_memory(gradient) for gradient in gradients}) < len(gradients):
            raise Unknown
        left = iter(gradients)
        self.gradients = [None if gradient is None else self._alias(next(left)) for gradient in computed.gradients]
        self._weights = [(weight, weight.data_ptr()) for weight in weights]

    def _add(self, number: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        results = _results(result)
        if any(not isinstance(item, Tensor) for item in results):
            raise Unknown
        generator = kwargs.get("generator")
        if generator is not None and _constant(generator) not in self._generators:
            raise Unknown
        read = {_memory(item) for item in (*args, *kwargs.values()) if isinstance(item, Tensor)}
        writes = any(
            argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments
        )
        if not writes and all(_memory(item) in read for item in results):
            return  # a view: its memory is written by other calls
        if func in CONSTANTS and not read:
            return  # a constant, kept as it is: a write to it raises Unknown
        if not writes:
            self._made |= {_memory(item) for item in results}
        if func in MAKES_ROOM:
            return
        if func is aten.copy_.default and self._is_of_recording(*args):
            self._taken[_memory(args[0])] = args[1]
            return
        if func not in CALLS or read & self._taken.keys():
            raise Unknown
        if writes and func not in FILLS and any(_memory(item) not in self._made for item in results):
            raise Unknown  # modifies memory that outlives the step
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
        """Reuses memory that is no longer needed for a result, which needs less memory and more of it is cached."""
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
        """Whether autograd only copied a gradient because the recorder also held a reference to it."""
        if how or _memory(copy) not in self._of_gradients or _kind(copy) != _kind(of):
            return False
        return {_memory(copy), _memory(of)} <= self._made and _memory(of) not in self._taken

    def _bound(self, item: Any) -> Any:
        """The argument for a replayed call: the item itself, a detached alias, or a view of the batch."""
        if not isinstance(item, Tensor):
            if isinstance(item, list | tuple) and any(isinstance(part, Tensor) for part in item):
                raise Unknown
            return item
        if _memory(item) in self._batch:
            place, of = self._batch[_memory(item)]
            if item.dtype != of.dtype:
                raise Unknown
            return _Input(place, item, of)
        return self._alias(item)

    def _alias(self, tensor: Tensor) -> Tensor:
        there = self._moved.get(_memory(tensor))
        if there is None:
            return self._aliases.setdefault(id(tensor), tensor.detach())
        return there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def fits(self, batch: Sequence[Tensor]) -> bool:
        """Whether a batch has the recorded shapes and types, and the weights are at the same addresses."""
        return [_kind(item) for item in batch] == self._kinds and all(
            weight.data_ptr() == pointer for weight, pointer in self._weights
        )

    def run(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Computes `gradients` and returns the reported tensors, which the next run overwrites."""
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
        return [_given(item, batch) for item in self._said]


def _results(result: Any) -> Sequence[Any]:
    return result if isinstance(result, tuple | list) else (result,)


def _constant(item: Any) -> Any:
    if isinstance(item, torch.Generator):
        return item._cdata  # type: ignore[attr-defined]  # a recorded one is another object of Python
    return _kind(item) if isinstance(item, Tensor) else item


def _given(item: Any, batch: Sequence[Tensor]) -> Any:
    return item(batch) if type(item) is _Input else item


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _kind(tensor: Any) -> Any:
    return type(tensor), tensor.shape, tensor.dtype, tensor.stride()
