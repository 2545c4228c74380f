"""Hashes of weights; that they are the same after a resume is tested in test_resume.py."""

import pytest
import torch
from torch import nn

from studies.trial import fingerprints
from studies.trial.fingerprints import hash_weights

BATCHES = 100


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_equal_weights_have_equal_hashes() -> None:
    names, weights, parts = hash_weights(net(), BATCHES)
    assert (names, weights, parts) == hash_weights(net(), BATCHES)
    assert names[0] == "0.weight" and "1.running_mean" in names
    assert len(parts) == 4 * len(names) and len(weights) == 16


@pytest.mark.parametrize("name", ["0.bias", "1.running_var", "1.num_batches_tracked"])
def test_a_changed_bit_shows_in_the_parameter_that_has_it(name: str) -> None:
    module = net()
    names, weights, parts = hash_weights(module, BATCHES)
    flat = dict(module.state_dict())[name].reshape(-1).view(torch.uint8)
    flat[0] ^= 1
    _, other, changed = hash_weights(module, BATCHES)
    assert other != weights
    place = 4 * names.index(name)
    assert [at for at in range(0, len(parts), 4) if parts[at : at + 4] != changed[at : at + 4]] == [place]


def test_nothing_is_drawn_and_nothing_is_changed() -> None:
    module = net()
    state, before = torch.get_rng_state(), [weight.clone() for weight in module.parameters()]
    hash_weights(module, BATCHES)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, before, module.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64])
def test_any_dtype_and_a_view_that_is_not_contiguous(dtype: torch.dtype) -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.arange(12).reshape(3, 4).to(dtype).t())  # type: ignore[assignment]
    copy = nn.Module()
    copy.weight = nn.Parameter(module.weight.detach().contiguous())  # type: ignore[assignment, operator]
    assert hash_weights(module, BATCHES) == hash_weights(copy, BATCHES)


def test_a_tensor_without_bytes_of_its_own_has_no_hash() -> None:
    module = nn.LazyLinear(2)
    module.register_buffer("sparse", torch.eye(3).to_sparse())
    module.register_buffer("meta", torch.empty(3, device="meta"))
    module.register_buffer("empty", torch.empty(0))
    names, _, parts = hash_weights(module, BATCHES)
    assert names == ["weight", "bias", "sparse", "meta", "empty"]
    assert parts[:16] == "----" * 4 and parts[16:] != "----"


def test_of_a_large_model_a_share_is_hashed_that_grows_with_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(1024, 1024, bias=False)  # 4 MiB
    hashed = []
    blocks = fingerprints._blocks

    def noting(flat: torch.Tensor, share: float) -> torch.Tensor:
        hashed.append(len(found := blocks(flat, share)))
        return found

    monkeypatch.setattr(fingerprints, "_blocks", noting)
    for batches in (1, 100, 1000, 10_000):
        hash_weights(module, batches)
    assert hashed == [2**16, 100 * 2048, 1000 * 2048, 2**22]


def test_a_large_model_that_changes_everywhere_has_another_hash() -> None:
    module = nn.Linear(1024, 1024)
    before = hash_weights(module, 1)
    with torch.no_grad():
        module.weight.add_(1e-3)
    assert hash_weights(module, 1) != before
