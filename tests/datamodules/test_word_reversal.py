from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import ReverseWordDataset, Vocabulary, WordReversal
from datamodules.word_reversal import split_words

LETTERS = Vocabulary("abcdefghijklmnopqrstuvwxyz")
words = st.text(alphabet="abc", min_size=1, max_size=5)


@given(st.lists(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", max_size=12), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_decoding_undoes_encoding_and_padding(many: list[str]) -> None:
    padded = LETTERS.pad([LETTERS.encode(word, end=True) for word in many], 14)
    assert padded.shape == (len(many), 14) and padded.dtype == torch.int64
    assert [LETTERS.decode(row.tolist()) for row in padded] == many


def test_the_example_of_the_docstring() -> None:
    vocabulary = Vocabulary("abc")
    assert vocabulary.encode("cab", end=True) == [5, 3, 4, 2]
    assert vocabulary.pad([[5, 3, 4, 2]], 6).tolist() == [[5, 3, 4, 2, 0, 0]]
    assert len(vocabulary) == 6
    dataset = ReverseWordDataset(["turkey"], LETTERS, max_length=7)
    source, target = dataset[0]
    assert source.tolist() == [27, 7, 13, 20, 23, 22, 0]
    assert target.tolist() == [22, 23, 20, 13, 7, 27, 2, 0]


def test_ids_after_the_end_are_ignored() -> None:
    assert LETTERS.decode([3, 4, Vocabulary.END, 5, 5]) == "ab"


@given(st.sets(words, min_size=8, max_size=60), st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_splits_are_disjoint_complete_and_fair(known: set[str], seed: int) -> None:
    ordered = sorted(known)
    if sum(word[::-1] not in known for word in ordered) < 4:
        return
    train, validation, test = split_words(ordered, 1, 2, seed)
    assert sorted([*train, *validation, *test]) == ordered
    assert (len(validation), len(test)) == (1, 2)
    for word in [*validation, *test]:
        assert word != word[::-1], "a palindrome equals its input"
        assert word[::-1] not in train, "its answer was an input in training"
    assert split_words(ordered, 1, 2, seed) == (train, validation, test)


def write(folder: Path, lines: str) -> str:
    (folder / "words.txt").write_text(lines)
    return str(folder / "words.txt")


@pytest.fixture
def small(tmp_path: Path) -> WordReversal:
    lines = "\n".join(f"{a}{b}{c}x" for a in "abcd" for b in "efgh" for c in "klmn")
    data = WordReversal(batch_size=8, validation_size=5, test_size=7, words_file=write(tmp_path, lines), max_length=6)
    data.prepare_data()
    data.setup("fit")
    return data


def test_batches_and_sizes(small: WordReversal) -> None:
    source, target = next(iter(small.train_dataloader()))
    assert source.shape == (8, 6) and target.shape == (8, 7)
    assert len(small.train_dataloader()) == (64 - 12) // 8
    assert sum(len(batch[0]) for batch in small.val_dataloader()) == 5
    assert sum(len(batch[0]) for batch in small.test_dataloader()) == 7
    assert small.sizes["vocab_size"] == len(small.vocabulary) == 3 + len("abcdefghklmnx")
    assert small.vocabulary.decode(source[0].tolist()) == small.vocabulary.decode(target[0].tolist())[::-1]


def test_the_order_is_a_function_of_seed_and_epoch(small: WordReversal) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        small.seed = seed
        loader = small.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return [row for batch in loader for row in batch[0].tolist()]

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_english_words_by_default() -> None:
    data = WordReversal()
    data.setup()
    assert len(data.test_set) >= 5000
    assert data.vocabulary.characters == list("abcdefghijklmnopqrstuvwxyz")
    lengths = {len(word) for split in (data.train_set, data.test_set) for word in split.words}
    assert lengths == set(range(3, 13))
    assert "turkey" in {*data.train_set.words, *data.val_set.words, *data.test_set.words}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size must be"),
        ({"min_length": 0}, "min_length must be"),
        ({"min_length": 5, "max_length": 4}, "min_length must be"),
        ({"validation_size": 0}, "validation_size must be"),
        ({"test_size": -1}, "test_size must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_an_invalid_argument_gives_one_line(arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        WordReversal(**arguments)
    assert "\n" not in str(caught.value)


def test_unsuitable_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be between 1 and the 1 training words"):
        WordReversal(2, validation_size=1, test_size=1, words_file=write(tmp_path, "abc\nabd\nabe")).setup()
    with pytest.raises(ValueError, match="no words of 3 to 12"):
        WordReversal(words_file=write(tmp_path, "ab\n")).setup()
    with pytest.raises(ValueError, match="must be less than the 2 words"):
        WordReversal(1, validation_size=5, test_size=5, words_file=write(tmp_path, "abc\nabd\naba")).setup()
    with pytest.raises(ValueError, match=r"'é' in 'café'"):
        LETTERS.encode("café")
    with pytest.raises(ValueError, match="at most max_length=3"):
        ReverseWordDataset(["abcd"], LETTERS, 3)
    with pytest.raises(OSError):
        WordReversal(words_file=str(tmp_path / "none.txt")).setup()


def test_the_words_are_in_the_same_order_in_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words come as sets, whose order differs between processes and would affect the split."""
    known = [f"{a}{b}{c}" for a in "zyx" for b in "cab" for c in "onm"]
    for order in (known, known[::-1]):
        monkeypatch.setattr("datamodules.word_reversal.get_english_words_set", lambda *_, order=order, **__: order)
        assert WordReversal()._read() == sorted(known)
    assert WordReversal(words_file=write(tmp_path, "\n".join(known)))._read() == sorted(known)


def test_batches_of_equal_lengths_have_no_padding(tmp_path: Path) -> None:
    lines = "\n".join(f"{a}{b}" + c * (ord(c) - 106) for a in "abcd" for b in "efgh" for c in "klm")
    data = WordReversal(
        4, min_length=1, validation_size=2, test_size=2, equal_lengths=True, words_file=write(tmp_path, lines)
    )
    data.setup()
    lengths = set()
    for source, target in data.train_dataloader():
        assert (source != Vocabulary.PAD).all() and (target[:, -1] == Vocabulary.END).all()
        assert torch.equal(source.flip(1), target[:, :-1])
        lengths.add(source.shape[1])
    assert lengths == {3, 4, 5}
    assert next(iter(data.val_dataloader()))[0].shape[1] == data.max_length, "evaluation is as ever"
