from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import RandomStrings, Vocabulary


def small(**arguments: Any) -> RandomStrings:
    return RandomStrings(**{"batch_size": 16, "max_length": 5, "beyond": 2, "batches": 60, **arguments})


def lengths_of(data: RandomStrings) -> list[int]:
    return [source.shape[1] for source, _ in data.train_dataloader()]


@given(
    batch_size=st.integers(1, 20),
    max_length=st.integers(1, 7),
    batches=st.integers(1, 30),
    curriculum=st.floats(0, 1),
    long_bias=st.floats(1, 4),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=50)
def test_batches_hold_strings_of_one_length_and_their_reversal(**arguments: Any) -> None:
    data = RandomStrings(**arguments)
    batches = list(data.train_dataloader())
    assert len(batches) == arguments["batches"]
    for source, target in batches:
        size, length = source.shape
        assert size == arguments["batch_size"] and 1 <= length <= arguments["max_length"]
        assert source.dtype == target.dtype == torch.int64
        assert torch.equal(target[:, :-1].flip(1), source) and (target[:, -1] == Vocabulary.END).all()
        assert source.min() >= Vocabulary.SPECIAL and source.max() < len(data.vocabulary)


def test_every_batch_is_drawn_anew_and_depends_on_the_seed_alone() -> None:
    def strings(**arguments: Any) -> list[str]:
        data = small(**arguments)
        return ["".join(map(chr, row)) for source, _ in data.train_dataloader() for row in source.tolist()]

    long = [string for string in strings(seed=1) if len(string) == 5]
    assert len(set(long)) > 0.9 * len(long) > 0
    assert strings(seed=1) == strings(seed=1) == strings(seed=1, split_seed=3) != strings(seed=2)


def test_the_curriculum_lets_the_length_grow() -> None:
    growing = lengths_of(small(max_length=9, batches=200, curriculum=1.0))
    assert max(growing[:20]) <= 3 and max(growing[:100]) <= 6 < max(growing[100:])
    assert set(lengths_of(small(batches=200, curriculum=0.0))) == {1, 2, 3, 4, 5}


def test_long_bias_draws_long_strings_more_often() -> None:
    even, biased = (lengths_of(small(batches=2000, curriculum=0.0, long_bias=bias)) for bias in (1, 2))
    # P(length <= n) = (n / 5) ** long_bias
    assert sum(length == 5 for length in even) / 2000 == pytest.approx(1 - 4 / 5, abs=0.04)
    assert sum(length == 5 for length in biased) / 2000 == pytest.approx(1 - (4 / 5) ** 2, abs=0.04)


def test_evaluation_strings_are_fixed_and_equally_many_of_each_length_and_beyond() -> None:
    data = small(validation_size=3, test_size=4)
    for loader, of_each in ((data.val_dataloader, 3), (data.test_dataloader, 4)):
        ((source, target),) = loader()
        assert torch.bincount((source != 0).sum(dim=1)).tolist() == [0] + [of_each] * 7
        assert [data.vocabulary.decode(row.tolist()) for row in target] == [
            data.vocabulary.decode(row.tolist())[::-1] for row in source
        ]
        assert torch.equal(next(iter(loader()))[0], source)
    (validation, _), (test, _) = (next(iter(loader)) for loader in (data.val_dataloader(), data.test_dataloader()))
    assert not torch.equal(validation[:7], test[:7])
    assert not torch.equal(next(iter(small(split_seed=1).val_dataloader()))[0][:7], validation[:7])


def test_an_interrupted_epoch_goes_on_with_the_next_batch() -> None:
    whole = [source.tolist() for source, _ in small().train_dataloader()]
    loader = small().train_dataloader()
    batches = iter(loader)
    for _ in range(7):
        next(batches)
    resumed = small().train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert [source.tolist() for source, _ in resumed] == whole[7:]


def test_inputs_may_be_as_long_as_evaluation_strings() -> None:
    ids, words, _ = small().inputs(["abcdefg"])
    assert ids.tolist() == [[3, 4, 5, 6, 7, 8, 9]] and words == ["abcdefg"]
    with pytest.raises(ValueError, match="1 to 7 characters"):
        small().inputs(["abcdefgh"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, but got batch_size=0"),
        ({"beyond": -1}, "beyond must be at least 0, but got beyond=-1"),
        ({"long_bias": float("nan")}, "long_bias must be at least 1, but got long_bias=nan"),
        ({"curriculum": 1.5}, r"curriculum must be between 0 and 1, but got curriculum=1\.5"),
    ],
)
def test_bad_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomStrings(**arguments)
