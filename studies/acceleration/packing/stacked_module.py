"""Several models of one shape as one: weights are stacked and gradients computed by batched operations.

A small model's step is dominated by call overhead; K models on stacked tensors need about as many calls as one. The
computation is the model's own `loss_and_outputs`, mapped over the stack by torch.func.vmap, so there is no second
implementation of it. Each model keeps its optimizer and its parameters, which become views of the stack.

What vmap cannot map is replaced in a copy of the first model: dropout, whose masks must be those that each model would
have drawn alone, and PyTorch's GRU, which has no batching rule.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call, vmap


class Stack:
    """Models whose weights are views of stacked tensors.

    Args:
        modules: at least two, of one class, in training mode, on one device.

    Attributes:
        parameters: name -> weights of all models, (K, ...).
        owners: name -> the models' parameters that are views of these, for trained weights.
        gradients: name -> gradients of all models, (K, ...), or None, for trained weights.

    Raises:
        ValueError: they cannot be stacked; the message says why.
    """

    def __init__(self, modules: list[LightningModule]) -> None:
        why = why_not(modules)
        if why is not None:
            raise ValueError(why)
        self.modules = modules
        self.generators = [torch.Generator(next(module.parameters()).device) for module in modules]
        template = copy.deepcopy(modules[0])
        self.draws = _replace(template, "", modules, self.generators)
        self._template = _Learner(template)
        self._sums_apart = False  # whether sums are computed model by model
        self.parameters = _stacked("named_parameters", modules)
        self._buffers = _stacked("named_buffers", modules)
        trained = [name for name, value in modules[0].named_parameters() if value.requires_grad]
        self.owners = {name: [module.get_parameter(name) for module in modules] for name in trained}
        self.gradients: dict[str, Tensor | None] = {}
        self._views = {name: value.unbind(0) for name, value in self.parameters.items()}
        for tensor in self.parameters.values():
            tensor.requires_grad_()

    def is_intact(self) -> bool:
        """Whether the models' weights are still views of the stack."""
        return all(
            parameter.data_ptr() == view.data_ptr()
            for name, owners in self.owners.items()
            for parameter, view in zip(owners, self._views[name], strict=True)
        )

    def learn(self, batches: list[tuple[Tensor, ...]]) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """Computes each model's gradients into its parameters.

        Args:
            batches: one per model, with equal shapes.

        Returns:
            Each model's loss, (), and outputs, as from `loss_and_outputs`.
        """
        losses, outputs = self.differentiate(tuple(torch.stack(tensors) for tensors in zip(*batches, strict=True)))
        self.hand_out()
        return list(losses.unbind(0)), list(zip(*(output.unbind(0) for output in outputs), strict=True))

    def differentiate(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Computes all models' gradients into `gradients`; `hand_out` distributes them.

        Args:
            batch: batches of all models, tensors (K, B, ...).

        Returns:
            All losses, (K,), and outputs (K, ...).
        """
        losses, outputs = vmap(self._one)(self.parameters, self._buffers, batch)
        trained = [self.parameters[name] for name in self.owners]
        gradients = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
        for name, stacked, gradient in zip(self.owners, trained, gradients, strict=True):
            if gradient is not None and gradient.stride() != stacked.stride():  # fused optimizers need equal strides
                gradient = torch.empty_like(stacked).copy_(gradient)
            self.gradients[name] = gradient
        return losses.detach(), tuple(output.detach() for output in outputs)

    def hand_out(self) -> None:
        """Sets each model's `grad` to its slice of the gradients."""
        for name, owners in self.owners.items():
            gradient = self.gradients[name]
            views = [None] * len(owners) if gradient is None else gradient.unbind(0)
            for parameter, view in zip(owners, views, strict=True):
                parameter.grad = view

    def summed(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """Each model's sums of its outputs by `summed`, (K, N)."""
        summed = self._template.module.summed
        if not self._sums_apart:
            try:
                return vmap(summed)(*outputs)  # type: ignore[no-any-return]
            except RuntimeError:  # e.g. a histogram cannot be mapped
                self._sums_apart = True
        return torch.stack([summed(*of_model) for of_model in zip(*outputs, strict=True)])

    def _one(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return functional_call(self._template, (_inside(parameters), _inside(buffers)), (batch,))  # type: ignore[no-any-return]


class _Learner(nn.Module):
    """Wraps a model so that calling it computes a training step."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.module.loss_and_outputs(batch)  # type: ignore[no-any-return]


def _inside(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def can_stack(module: LightningModule) -> bool:
    """Whether a model's class supports stacking, and its training step does nothing else."""
    classes = type(module).__mro__
    says = [name for name in ("packable_hyperparameters", "loss_and_outputs", "training_step") if hasattr(module, name)]
    if len(says) < 3 or not module.packable_hyperparameters:
        return False
    places = [next(place for place, cls in enumerate(classes) if name in vars(cls)) for name in says]
    return places[2] >= places[1] and "training_step" not in vars(module)


def sums_suffice(module: LightningModule) -> bool:
    """Whether its metrics only need the sums of a training step's outputs."""
    classes = type(module).__mro__
    takers = [next((cls for cls in classes if name in vars(cls)), None) for name in ("add_sums", "add_training")]
    return takers[0] is not None and takers[0] is takers[1]


def why_not(modules: list[LightningModule]) -> str | None:
    """Why models cannot be stacked, or None if they can."""
    first = modules[0]
    if not can_stack(first):
        return f"{type(first).__name__} does not declare how to stack its training steps"
    shapes = [_shape_of(module) for module in modules]
    if any(shape != shapes[0] for shape in shapes):
        return f"the models differ in more than {', '.join(first.packable_hyperparameters)}"  # type: ignore[arg-type]
    for part in first.modules():
        if isinstance(part, nn.RNNBase) and (part.mode != "GRU" or part.bidirectional or not part.bias):
            return f"stacking nn.{part.mode} is not supported"
        if isinstance(part, nn.RNNBase) and part.dropout and part.num_layers > 1:
            return "dropout between a GRU's layers cannot be reproduced when stacked"
        if hasattr(part, "not_stackable"):
            return str(part.not_stackable)
    return None


def _shape_of(module: LightningModule) -> list[Any]:
    """Everything that stacked models must have in common besides their constructor arguments."""
    parts: list[Any] = [(name, type(part)) for name, part in module.named_modules()]
    for named in (module.named_parameters(), module.named_buffers()):
        parts += [(name, value.shape, value.stride(), value.dtype, value.requires_grad) for name, value in named]
    return [type(module), *parts, {type(part) for part in module.modules() if part.training is False}]


def _stacked(kind: str, modules: list[LightningModule]) -> dict[str, Tensor]:
    """Name -> stacked values (K, ...), of which each model's tensors become views with unchanged layout."""
    stacked = {}
    for values in zip(*(getattr(module, kind)() for module in modules), strict=True):
        name, tensors = values[0][0], [value.data for _, value in values]
        first = tensors[0]
        together = torch.empty_strided(
            (len(tensors), *first.shape), (first.numel(), *first.stride()), dtype=first.dtype, device=first.device
        )
        for view, (_, value), tensor in zip(together.unbind(0), values, tensors, strict=True):
            view.copy_(tensor)
            value.data = view
        stacked[name] = together
    return stacked


def _replace(part: nn.Module, path: str, modules: list[LightningModule], generators: list[torch.Generator]) -> bool:
    """Replaces, in the template, what cannot be mapped; returns whether any module draws random numbers."""
    draws = False
    for name, child in part.named_children():
        place = f"{path}.{name}" if path else name
        if type(child) is nn.Dropout or hasattr(child, "mask"):
            setattr(part, name, _OwnDropout([module.get_submodule(place) for module in modules], generators))
            draws = True
        elif type(child) is nn.Linear:
            setattr(part, name, _Linear(child))
        elif isinstance(child, nn.GRU):
            setattr(part, name, _GRU(child))
        else:
            draws = _replace(child, place, modules, generators) or draws
    return draws


class _Masks(torch.autograd.Function):
    """Dropout masks, drawn for each model of a stack from its own generator as its own layer would draw them."""

    generate_vmap_rule = False

    @staticmethod
    def forward(inputs: Tensor, dropout: _OwnDropout) -> Tensor:
        raise NotImplementedError("outside a stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, inputs: Tensor, dropout: _OwnDropout) -> tuple[Tensor, int]:
        assert in_dims[0] == 0
        masks = torch.empty_like(inputs, memory_format=torch.contiguous_format)  # drawn in this order
        for mask, part, generator in zip(masks.unbind(0), dropout.parts, dropout.generators, strict=True):
            if hasattr(part, "mask") and not mask.is_cuda:
                mask.copy_(part.mask(mask.shape, mask.dtype, generator))
            elif mask.is_cuda and 0 < part.p < 1:  # there nn.Dropout's fused kernel draws in another order
                mask.copy_(torch._fused_dropout(torch.ones_like(mask), 1 - part.p, generator)[0])
            elif mask.is_cuda:
                mask.fill_(1 - part.p)  # no random numbers are drawn
            else:
                mask.bernoulli_(1 - part.p, generator=generator).div_(1 - part.p)  # as in nn.Dropout
        return masks, 0


class _OwnDropout(nn.Module):
    """One dropout layer for all models. `parts`: each model's layer; a part with a method `mask` draws by that."""

    def __init__(self, parts: list[Any], generators: list[torch.Generator]) -> None:
        super().__init__()
        self.parts, self.generators = tuple(parts), generators

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * _Masks.apply(inputs.detach(), self)  # type: ignore[no-any-return]


class _Linear(nn.Module):
    """nn.Linear with the product transposed for 2-D inputs: under vmap, F.linear's weight gradient has transposed
    memory layout, and converting it takes as long as computing it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() != 2:
            return nn.functional.linear(inputs, self.weight, self.bias)
        outputs = (self.weight @ inputs.mT).mT
        return outputs if self.bias is None else outputs + self.bias


class _GRU(nn.Module):
    """nn.GRU in operations that can be mapped, with the same parameter names and interface.

    r = sigmoid(Wr x + Ur h + br),  z = sigmoid(Wz x + Uz h + bz)
    n = tanh(Wn x + bn + r * (Un h + cn)),  h' = (1 - z) * n + z * h
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        assert gru.batch_first
        self.hidden_size, self.num_layers = gru.hidden_size, gru.num_layers
        for name, parameter in gru.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (B, T, H) and the last state (L, B, H) of inputs (B, T, features), from the given state or zeros."""
        states = []
        for layer in range(self.num_layers):
            w, u, b, c = (getattr(self, f"{n}_l{layer}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            of_input = inputs @ w.T + b  # (B, T, 3H), for all time steps at once
            h = torch.zeros_like(of_input[:, 0, : self.hidden_size]) if state is None else state[layer]
            outputs = []
            for x in of_input.unbind(1):
                xr, xz, xn = x.chunk(3, dim=1)
                hr, hz, hn = (h @ u.T + c).chunk(3, dim=1)
                z = torch.sigmoid(xz + hz)
                n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
                h = n + z * (h - n)
                outputs.append(h)
            inputs = torch.stack(outputs, dim=1)
            states.append(h)
        return inputs, torch.stack(states)
