"""Random strings to reverse, of every length: what a recurrent network remembers without any help from language."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.in_memory_loader import InMemoryLoader, seeded_generator
from datamodules.word_reversal import EVALUATION_BATCH_SIZE, ReverseWordDataset, Vocabulary, encoded

LETTERS = "abcdefghijklmnopqrstuvwxyz"
EASIEST = 2  # characters of the longest strings at the beginning of the curriculum
VALIDATION, TEST = 1, 2  # streams of random numbers


class RandomStrings(pl.LightningDataModule):
    """Reversed random strings, as input, and the strings, as output, of 1 to max_length letters.

    Training strings are drawn anew for each batch, in one epoch of `batches` batches: set trainer.max_epochs to 1. All
    strings of a batch have one length, so that nothing is padded. At first they have at most 2 letters; over the share
    `curriculum` of the batches that grows evenly to max_length (curriculum learning; Bengio et al. 2009, ICML).

    Evaluation strings are fixed, equally many of each length from 1 to max_length + beyond, so that they also show what
    was learned for lengths that never occurred in training. Strings of up to 4 letters mostly occur in training, too,
    since there are too few of them to hold some out; of longer ones hardly any does.
    Batches are (source, target), int64 (B, T) and (B, T + 1), see `ReverseWordDataset`.

    Args:
        batch_size: strings per training batch, >= 1.
        seed: decides the training strings, >= 0.
        split_seed: decides the evaluation strings, >= 0.
        max_length: letters of the longest training strings, >= 1.
        beyond: evaluation strings have up to so many letters more, >= 0.
        batches: number of training batches, >= 1.
        curriculum: share of the batches in which the length grows, 0 to 1.
        long_bias: how much more often long strings occur than short ones, >= 1: the length is max_length *
            u^(1 / long_bias), rounded up, for u uniform in (0, 1]; 1 draws all lengths equally often.
        validation_size: strings of each length for validation, >= 1.
        test_size: strings of each length for the test, >= 1.

    Raises:
        ValueError: an argument is outside its range.
    """

    harness_links = ("seed", "sizes")  # filled in by studies/trial/instantiate.py
    keeps_no_state = True  # so trials may share a process: all state is in instances

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        split_seed: int = 0,
        max_length: int = 15,
        beyond: int = 3,
        batches: int = 4000,
        curriculum: float = 0.4,
        long_bias: float = 1.0,
        validation_size: int = 100,
        test_size: int = 1000,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("split_seed", split_seed, 0),
            ("max_length", max_length, 1),
            ("beyond", beyond, 0),
            ("batches", batches, 1),
            ("long_bias", long_bias, 1),
            ("validation_size", validation_size, 1),
            ("test_size", test_size, 1),
        ):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, but got {name}={value}")
        if not 0 <= curriculum <= 1:
            raise ValueError(f"curriculum must be between 0 and 1, but got {curriculum=}")
        self.save_hyperparameters(logger=False)
        self.batch_size, self.seed, self.split_seed = batch_size, seed, split_seed
        self.max_length, self.beyond, self.batches = max_length, beyond, batches
        self.curriculum, self.long_bias = curriculum, long_bias
        self.validation_size, self.test_size = validation_size, test_size
        self.vocabulary = Vocabulary(LETTERS)

    @property
    def sizes(self) -> dict[str, Any]:
        """Data-derived arguments of a model."""
        return {
            "characters": self.vocabulary.characters,
            "vocab_size": len(self.vocabulary),
            "pad_id": Vocabulary.PAD,
            "start_id": Vocabulary.START,
            "end_id": Vocabulary.END,
            "max_length": self.max_length + self.beyond,
            "trained_length": self.max_length,
        }

    def train_dataloader(self) -> InMemoryLoader:
        # A row is the longest length that its batch may have: 640 kB for 4,000 batches of 128.
        grown = torch.arange(self.batches) / max(self.curriculum * self.batches, 1)
        longest = (EASIEST + grown * (self.max_length - EASIEST)).clamp(max=self.max_length).round()
        longest = longest.clamp(min=1).to(torch.int16).repeat_interleave(self.batch_size)
        return InMemoryLoader(
            (longest.to(self._device()),), self.batch_size, seed=self.seed, drop_last=True, transform=self._drawn
        )

    def val_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader(VALIDATION, self.validation_size)

    def test_dataloader(self) -> InMemoryLoader:
        return self._evaluation_loader(TEST, self.test_size)

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch of reversed strings for a trained model; see `encoded`."""
        return encoded(items, self.vocabulary, self.max_length + self.beyond)

    def _drawn(self, longest: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        u = 1 - torch.rand((), generator=generator, device=longest.device)  # in (0, 1]
        length = int((longest[0] * u ** (1 / self.long_bias)).ceil())
        shape, letters = (len(longest), length), (Vocabulary.SPECIAL, len(self.vocabulary))
        strings = torch.randint(*letters, shape, generator=generator, device=longest.device)
        return strings.flip(1), torch.cat([strings, torch.full_like(strings[:, :1], Vocabulary.END)], dim=1)

    def _evaluation_loader(self, stream: int, of_each: int) -> InMemoryLoader:
        generator = seeded_generator(self.split_seed, stream)
        lengths = list(range(1, self.max_length + self.beyond + 1)) * of_each  # each batch has strings of all lengths
        letters = iter(torch.randint(len(LETTERS), (sum(lengths),), generator=generator).tolist())
        strings = ["".join(LETTERS[next(letters)] for _ in range(length)) for length in lengths]
        dataset = ReverseWordDataset(strings, self.vocabulary, self.max_length + self.beyond)
        device = self._device()
        return InMemoryLoader((dataset.sources.to(device), dataset.targets.to(device)), EVALUATION_BATCH_SIZE)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
