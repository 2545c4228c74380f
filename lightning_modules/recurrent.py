"""Recurrent cells in addition to PyTorch's, and gradients back in time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_modules.dropout import Dropout

DISTANCES = 40  # steps back in time for which gradients are computed


class ChoGRU(nn.Module):
    """The gated recurrent unit as originally published (Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8).

    z = sigmoid(Wz x + Uz h + bz)            how much is new
    r = sigmoid(Wr x + Ur h + br)            how much of the state the candidate sees
    h~ = tanh(W x + U (r * h) + b)           the candidate
    h' = (1 - z) * h + z * h~

    nn.GRU applies r after the matrix instead, r * (U h + c), which cuDNN computes faster, and its z has the
    opposite meaning. The interface is that of nn.GRU with batch_first.

    Args:
        input_size: features of one step, >= 1.
        hidden_size: units, >= 1.
        num_layers: stacked layers, >= 1.
        dropout: share of units set to 0 between stacked layers in training.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, batch_first: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        assert batch_first, "sequences are (B, T, features)"
        self.hidden_size, self.num_layers, self.dropout = hidden_size, num_layers, Dropout(dropout)
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            features = input_size if layer == 0 else hidden_size
            shapes = {"weight_ih": (3, hidden_size, features), "weight_hh": (3, hidden_size, hidden_size)}
            shapes["bias"] = (3, hidden_size)
            for name, shape in shapes.items():  # z, r, candidate
                weight = torch.empty(shape).uniform_(-bound, bound)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(weight))

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (B, T, H) and the last state (L, B, H) of inputs (B, T, features), from the given state or zeros."""
        if state is None:
            state = inputs.new_zeros(self.num_layers, inputs.shape[0], self.hidden_size)
        states = []
        for layer in range(self.num_layers):
            w, u, b = (getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias"))
            of_input = torch.einsum("btf,ghf->gbth", inputs, w) + b[:, None, None]  # (3, B, T, H)
            h, outputs = state[layer], []
            for t in range(inputs.shape[1]):
                z = torch.sigmoid(of_input[0, :, t] + h @ u[0].T)
                r = torch.sigmoid(of_input[1, :, t] + h @ u[1].T)
                candidate = torch.tanh(of_input[2, :, t] + (r * h) @ u[2].T)
                h = (1 - z) * h + z * candidate
                outputs.append(h)
            inputs = torch.stack(outputs, dim=1)
            states.append(h)
            if layer + 1 < self.num_layers:
                inputs = self.dropout(inputs)
        return inputs, torch.stack(states)


CELLS: dict[str, type[nn.Module]] = {"gru": nn.GRU, "gru_cho": ChoGRU, "lstm": nn.LSTM, "rnn": nn.RNN}
GATES = {"gru": 3, "gru_cho": 3, "lstm": 4, "rnn": 1}


def hidden_size_for(num_parameters: int, count: Callable[[int], int]) -> int:
    """The largest hidden size with which a model has at most `num_parameters`.

    Args:
        count: hidden size -> the model's parameters.

    Raises:
        ValueError: even one unit has more parameters.
    """
    size = 0
    while count(size + 1) <= num_parameters:
        size += 1
    if size == 0:
        raise ValueError(f"num_parameters must allow for one unit at least, but got {num_parameters=}")
    return size


def parameters_of(cell: str, input_size: int, size: int, num_layers: int) -> int:
    """Number of parameters of a cell's stacked layers."""
    biases = 1 if cell == "gru_cho" else 2
    layers = [input_size] + [size] * (num_layers - 1)
    return sum(GATES[cell] * size * (features + size + biases) for features in layers)


@torch.no_grad()
def open_gates(cell: nn.RNNBase, bias: float = 3.0) -> nn.RNNBase:
    """Initializes an LSTM's forget gates or a GRU's update gates to keep the state (Jozefowicz et al. 2015).

    With PyTorch's initialization they keep half of it per step, which is no better than having no gates.
    """
    if cell.mode in ("LSTM", "GRU"):  # gates in the order input, forget, cell, output; or reset, update, new
        for layer in range(cell.num_layers):
            getattr(cell, f"bias_ih_l{layer}")[cell.hidden_size : 2 * cell.hidden_size] += bias
    return cell


def gradient_by_distance(cell: nn.Module, input_size: int, samples: int = 16) -> list[float]:
    """Norm of the gradient of the state, after random one-hot inputs, with respect to earlier steps.

    The product of many Jacobians vanishes or explodes (Bengio et al. 1994); gates preserve it.

    Returns:
        DISTANCES norms, starting at 0 steps back.
    """
    device = next(cell.parameters()).device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(input_size, (samples, DISTANCES), generator=generator)
    training = cell.training
    cell.eval()
    with torch.enable_grad():
        inputs = nn.functional.one_hot(ids, input_size).float().to(device).requires_grad_()
        outputs, _ = cell(inputs)
        (gradient,) = torch.autograd.grad(outputs[:, -1].sum(), inputs)
    cell.train(training)
    return gradient.norm(dim=(0, 2)).flip(0).tolist()
