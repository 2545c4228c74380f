import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import GRUSeq2Seq
from lightning_modules.recurrent import CELLS, ChoGRU, gradient_by_distance, open_gates


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def product(matrix: Tensor, vector: list[float]) -> list[float]:
    return [sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix.tolist()]


def test_cho_gru_equals_its_equations() -> None:
    torch.manual_seed(0)
    cell = ChoGRU(3, 4)
    inputs = torch.randn(1, 5, 3)
    (wz, wr, w), (uz, ur, u), (bz, br, b) = cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_l0
    h = [0.0] * 4
    for x in inputs[0].tolist():
        z = [sigmoid(a + c + d) for a, c, d in zip(product(wz, x), product(uz, h), bz.tolist(), strict=True)]
        r = [sigmoid(a + c + d) for a, c, d in zip(product(wr, x), product(ur, h), br.tolist(), strict=True)]
        seen = [a * c for a, c in zip(r, h, strict=True)]
        new = [math.tanh(a + c + d) for a, c, d in zip(product(w, x), product(u, seen), b.tolist(), strict=True)]
        h = [(1 - a) * c + a * d for a, c, d in zip(z, h, new, strict=True)]
    outputs, state = cell(inputs)

    assert state[0, 0].tolist() == pytest.approx(h, abs=1e-6)
    assert torch.equal(outputs[:, -1], state[-1])


def test_pytorchs_gru_equals_its_equations() -> None:
    torch.manual_seed(0)
    cell = nn.GRU(3, 4, batch_first=True)
    inputs = torch.randn(1, 5, 3)
    (wr, wz, wn), (ur, uz, un) = cell.weight_ih_l0.chunk(3), cell.weight_hh_l0.chunk(3)
    (br, bz, bn), (cr, cz, cn) = cell.bias_ih_l0.chunk(3), cell.bias_hh_l0.chunk(3)

    def gate(w: Tensor, u: Tensor, b: Tensor, c: Tensor, x: list[float], h: list[float]) -> list[float]:
        sums = zip(product(w, x), product(u, h), b.tolist(), c.tolist(), strict=True)
        return [sigmoid(sum(terms)) for terms in sums]

    h = [0.0] * 4
    for x in inputs[0].tolist():
        r, z = gate(wr, ur, br, cr, x, h), gate(wz, uz, bz, cz, x, h)
        state = [a + c for a, c in zip(product(un, h), cn.tolist(), strict=True)]
        terms = zip(product(wn, x), bn.tolist(), r, state, strict=True)
        new = [math.tanh(a + b + gated * s) for a, b, gated, s in terms]
        h = [(1 - a) * d + a * c for a, c, d in zip(z, h, new, strict=True)]
    assert cell(inputs)[1][0, 0].tolist() == pytest.approx(h, abs=1e-6)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_cho_gru_continues_from_a_state(num_layers: int) -> None:
    torch.manual_seed(0)
    cell = ChoGRU(3, 4, num_layers)
    inputs = torch.randn(2, 6, 3)
    whole, last = cell(inputs)
    first, state = cell(inputs[:, :2])
    second, end = cell(inputs[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)
    assert last.shape == (num_layers, 2, 4)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_cells_of_equally_many_parameters(num_layers: int) -> None:
    for cell in CELLS:
        module = GRUSeq2Seq(cell=cell, num_layers=num_layers, num_parameters=60_000)  # type: ignore[arg-type]
        assert 57_000 <= sum(parameter.numel() for parameter in module.parameters()) <= 60_000
    with pytest.raises(ValueError, match="num_parameters must allow for one unit at least"):
        GRUSeq2Seq(num_parameters=10)


def test_a_gradient_vanishes_in_a_plain_rnn_and_passes_open_gates() -> None:
    def share(name: str, opened: bool) -> float:
        torch.manual_seed(0)
        cell: Any = CELLS[name](8, 32, batch_first=True).train()
        norms = gradient_by_distance(open_gates(cell) if opened else cell, 8)
        assert len(norms) == 40 and cell.training
        return norms[30] / norms[0]

    assert share("rnn", opened=True) == share("rnn", opened=False) < 1e-6
    for name in ("lstm", "gru"):
        assert share(name, opened=True) > 0.05
        assert share(name, opened=False) < 1e-4, "half-open gates are no better than none"
