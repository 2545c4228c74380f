"""Word reversal: the input is a reversed word, the output the word ("yekrut" -> "turkey")."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from english_words import get_english_words_set
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.in_memory_loader import InMemoryLoader

EVALUATION_BATCH_SIZE = 1000  # without a backward pass, batches may be large


class Vocabulary:
    """Characters as ids, plus three special ids: pad, start of word, end of word.

    Example for the characters "abc": pad is 0, start 1, end 2, a is 3, b 4, c 5. "cab" is encoded as
    [5, 3, 4], with its end as [5, 3, 4, 2]; padded to length 6 that is [5, 3, 4, 2, 0, 0], and decoding reads
    up to the first end: "cab".

    Args:
        characters: all possible characters, each once, in the order of their ids.

    Raises:
        ValueError: a character is given twice, or is more than one character.
    """

    PAD, START, END = 0, 1, 2
    SPECIAL = 3

    def __init__(self, characters: Sequence[str]) -> None:
        if len(set(characters)) != len(characters) or any(len(character) != 1 for character in characters):
            raise ValueError(f"characters must be single characters, each given once, but got {characters=}")
        self.characters = list(characters)
        self._ids = {character: index for index, character in enumerate(self.characters, start=self.SPECIAL)}

    @classmethod
    def of(cls, words: Iterable[str]) -> "Vocabulary":
        """The vocabulary of all characters in the words, in alphabetical order."""
        return cls(sorted(set().union(*words)))

    def __len__(self) -> int:
        """Number of ids, including the three special ones."""
        return self.SPECIAL + len(self.characters)

    def encode(self, word: str, *, end: bool = False) -> list[int]:
        """Ids of a word's characters, followed by the end id if requested.

        Raises:
            ValueError: the word has a character that the vocabulary lacks.
        """
        try:
            ids = [self._ids[character] for character in word]
        except KeyError as error:
            allowed = "".join(self.characters)
            raise ValueError(f"word must consist of the characters {allowed}, but got {error} in {word!r}") from None
        return [*ids, self.END] if end else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The word that ids spell, up to the first end; pad and start are ignored."""
        word = []
        for index in ids:
            if index == self.END:
                break
            if index >= self.SPECIAL:
                word.append(self.characters[int(index) - self.SPECIAL])
        return "".join(word)

    def pad(self, sequences: Sequence[Sequence[int]], length: int) -> Tensor:
        """Sequences of ids, padded at their ends: int64 (number of sequences, length)."""
        padded = torch.full((len(sequences), length), self.PAD, dtype=torch.int64)
        lengths = torch.tensor([len(ids) for ids in sequences], dtype=torch.int64)
        # All rows at once: creating 200,000 tensors takes seconds.
        padded[torch.arange(length) < lengths[:, None]] = torch.tensor(
            [index for ids in sequences for index in ids], dtype=torch.int64
        )
        return padded


class ReverseWordDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of a reversed word and the word.

    Example with a to z as ids 3 to 28 and max_length 7: "turkey" is t22 u23 r20 k13 e7 y27. Its source is
    "yekrut" padded to 7, its target "turkey" with its end (2) padded to 8:

        source  27 7 13 20 23 22 0
        target  22 23 20 13 7 27 2 0

    Args:
        words: each at most max_length characters of the vocabulary.
        vocabulary: maps characters to ids.
        max_length: characters of the longest word.

    Raises:
        ValueError: a word is too long or has an unknown character.
    """

    def __init__(self, words: Sequence[str], vocabulary: Vocabulary, max_length: int) -> None:
        for word in words:
            if len(word) > max_length:
                raise ValueError(f"words must have at most {max_length=} characters, but got {word!r}")
        self.words = list(words)
        self.sources = vocabulary.pad([vocabulary.encode(word[::-1]) for word in words], max_length)  # (N, T)
        self.targets = vocabulary.pad([vocabulary.encode(word, end=True) for word in words], max_length + 1)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Source ids int64 (max_length,) and target ids int64 (max_length + 1,)."""
        return self.sources[index], self.targets[index]


class WordReversal(pl.LightningDataModule):
    """English words to un-reverse, split by word, so that no word is in both training and evaluation.

    Palindromes, and pairs like "stop" and "pots", which reveal each other, are only in the training set.
    Batches are (source, target), int64 (B, max_length) and (B, max_length + 1), see `ReverseWordDataset`.

    Args:
        batch_size: words per training batch, from 1 to their number.
        seed: decides the order of the training words, >= 0.
        split_seed: decides which words are held out, >= 0.
        min_length: characters of the shortest word, >= 1.
        max_length: characters of the longest word, >= min_length.
        validation_size: number of words held out for validation, >= 1.
        test_size: number of words held out for the test, >= 1.
        equal_lengths: the words of a training batch have one length, as many batches of each length as there are words
            for. Nothing is padded, so a step takes about half the time. Some words, of rare lengths all, are left out.
        words_file: a text file with a word on each line, in place of the English ones.

    Raises:
        ValueError: an argument is outside its range, or there are too few words for the split.
    """

    harness_links = ("seed", "sizes")  # filled in by studies/trial/instantiate.py
    keeps_no_state = True  # so trials may share a process: all state is in instances

    def __init__(
        self,
        batch_size: int = 256,
        seed: int = 0,
        split_seed: int = 0,
        min_length: int = 3,
        max_length: int = 12,
        validation_size: int = 2000,
        test_size: int = 10_000,
        equal_lengths: bool = False,
        words_file: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size=}")
        if not 1 <= min_length <= max_length:
            raise ValueError(f"min_length must be between 1 and {max_length=}, but got {min_length=}")
        for name, size in {"validation_size": validation_size, "test_size": test_size}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, but got {name}={size}")
        for name, value in {"seed": seed, "split_seed": split_seed}.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but got {name}={value}")
        self.save_hyperparameters(logger=False)
        self.batch_size, self.seed, self.split_seed = batch_size, seed, split_seed
        self.min_length, self.max_length = min_length, max_length
        self.validation_size, self.test_size = validation_size, test_size
        self.equal_lengths, self.words_file = equal_lengths, words_file
        self._ready = False

    def prepare_data(self) -> None:
        """Nothing to fetch: the words come with the package english-words, or from words_file."""

    def setup(self, stage: str | None = None) -> None:
        """Reads, splits and encodes the words.

        Raises:
            ValueError: batch_size is larger than the training set, or nothing is left to train on.
            OSError: words_file cannot be read.
        """
        if self._ready:
            return
        words = [word for word in self._read() if self.min_length <= len(word) <= self.max_length]
        if not words:
            raise ValueError(f"there are no words of {self.min_length} to {self.max_length} characters")
        splits = split_words(words, self.validation_size, self.test_size, self.split_seed)
        if not 1 <= self.batch_size <= len(splits[0]):
            raise ValueError(
                f"batch_size must be between 1 and the {len(splits[0])} training words, "
                f"but got batch_size={self.batch_size}"
            )
        self.vocabulary = Vocabulary.of(words)
        self.train_set, self.val_set, self.test_set = (
            ReverseWordDataset(split, self.vocabulary, self.max_length) for split in splits
        )
        self._ready = True

    def _read(self) -> list[str]:
        if self.words_file is None:
            # A set, in an order that changes from process to process: sorted, so that the split does not.
            return sorted(get_english_words_set(["web2"], lower=True, alpha=True))
        lines = Path(self.words_file).read_text().splitlines()
        return sorted({line.strip() for line in lines if line.strip()})

    @property
    def sizes(self) -> dict[str, Any]:
        """What the words decide of a model; valid after setup."""
        return {
            "characters": self.vocabulary.characters,
            "vocab_size": len(self.vocabulary),
            "pad_id": Vocabulary.PAD,
            "start_id": Vocabulary.START,
            "end_id": Vocabulary.END,
            "max_length": self.max_length,
        }

    def train_dataloader(self) -> InMemoryLoader:
        return self._loader(self.train_set, self.batch_size, training=True)

    def val_dataloader(self) -> InMemoryLoader:
        return self._loader(self.val_set, EVALUATION_BATCH_SIZE, training=False)

    def test_dataloader(self) -> InMemoryLoader:
        return self._loader(self.test_set, EVALUATION_BATCH_SIZE, training=False)

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch out of words as they are to be read, i.e. reversed ones, for a trained model; valid after setup.

        Returns:
            ids int64 (N, T), the words, and a note where one was written in capitals.

        Raises:
            ValueError: in one line: a word is empty, too long, or has a character the model has never seen.
        """
        return encoded(items, self.vocabulary, self.max_length)

    def _loader(self, words: ReverseWordDataset, batch_size: int, training: bool) -> InMemoryLoader:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        tensors = (words.sources.to(device), words.targets.to(device))
        if training and self.equal_lengths:
            groups = (words.sources != Vocabulary.PAD).sum(dim=1)
            return InMemoryLoader(tensors, batch_size, seed=self.seed, transform=unpadded, groups=groups)
        return InMemoryLoader(tensors, batch_size, shuffle=training, seed=self.seed, drop_last=training)


def unpadded(source: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Source (B, S) and target (B, T) without the columns that are padding in every row."""
    length = int((source != Vocabulary.PAD).sum(dim=1).max())
    return source[:, :length], target[:, : length + 1]


def encoded(items: Sequence[str], vocabulary: Vocabulary, max_length: int) -> tuple[Tensor, list[str], list[list[str]]]:
    """What `inputs` of a datamodule returns for words of 1 to `max_length` characters.

    Raises:
        ValueError: in one line: a word is empty, too long, or has a character that the vocabulary lacks.
    """
    words, notes = [], []
    for item in items:
        word = item if set(item) <= set(vocabulary.characters) else item.lower()
        if not 1 <= len(word) <= max_length:
            shown = word if len(word) <= 30 else f"{word[:30]}..."
            raise ValueError(f"words must have 1 to {max_length} characters, but {shown!r} has {len(word)}")
        words.append(word)
        notes.append([] if word == item else ["written in small letters"])
    ids = [vocabulary.encode(word) for word in words]
    return vocabulary.pad(ids, max(map(len, words))), words, notes


def split_words(
    words: Sequence[str], validation_size: int, test_size: int, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """Training, validation and test words, as a function of the words and the seed.

    Palindromes, and words whose reversal is a word too, are all in the training set.

    Raises:
        ValueError: the held-out words would leave none to train on.
    """
    known = set(words)
    may_be_held_out = [word for word in words if word[::-1] not in known]  # a palindrome's reversal is itself
    held_out = validation_size + test_size
    if held_out > len(may_be_held_out) or held_out >= len(words):
        raise ValueError(
            f"validation_size + test_size must be less than the {len(may_be_held_out)} words that may be held out, "
            f"but got {validation_size=} and {test_size=}"
        )
    random.Random(seed).shuffle(may_be_held_out)
    validation, test = may_be_held_out[:validation_size], may_be_held_out[validation_size:held_out]
    out = {*validation, *test}
    return [word for word in words if word not in out], validation, test
