from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from studies.trial import drawn_samples
from studies.trial.drawn_samples import Drew, Reading, Unreadable


class Listed(Dataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


class Augmented(Dataset[Any]):
    """Samples with noise from all three global generators."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return torch.rand(2) + index + random.random() + float(np.random.rand()), index % 2


KINDS = [
    (torch.ones(2), 1),
    {"image": np.ones(3), "label": 2},
    (Image.new("L", (2, 2), 7), "cat"),
    ("some text", None),
    [b"bytes", [1.5, True]],
    np.float32(3),
]


@pytest.mark.parametrize("sample", KINDS, ids=lambda sample: type(sample).__name__)
def test_samples_of_many_kinds(sample: Any) -> None:
    one, other = Reading(Listed([sample, sample])), Reading(Listed([sample, KINDS[0]]))
    assert one.inputs[0] == one.inputs[1] and one.fingerprinted == 2
    assert one.digest == Reading(Listed([sample, sample])).digest
    assert (one.digest == other.digest) == (sample is KINDS[0])


def test_targets_are_no_inputs_but_part_of_the_fingerprint() -> None:
    for one, other in (((1, 0), (1, 5)), ({"x": 1, "label": 0}, {"x": 1, "label": 5})):
        first, second = Reading(Listed([one])), Reading(Listed([other]))
        assert first.inputs[0] == second.inputs[0] and first.digest != second.digest


def test_augmentation_is_drawn_alike_and_moves_no_random_numbers() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert Reading(Augmented()).digest == Reading(Augmented()).digest
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]


def test_samples_that_cannot_be_compared_are_refused() -> None:
    class Random(Augmented):
        own = np.random.default_rng()

        def __getitem__(self, index: int) -> Any:
            return self.own.random()

    with pytest.raises(Unreadable, match="differ each time"):
        Reading(Random())
    with pytest.raises(Unreadable, match="hold a object"):
        Reading(Listed([object()]))


def test_large_samples_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_samples, "FEWEST", 3)
    monkeypatch.setattr(drawn_samples, "BYTES", 100)
    monkeypatch.setattr(drawn_samples, "SECONDS", -1.0)
    assert Reading(Listed([np.ones(1000)] * 50)).places.tolist() == [0, 24, 49]
    assert Reading(Listed([])).fingerprinted == 0
    monkeypatch.setattr(drawn_samples, "SECONDS", 60.0)
    whole = Reading(Listed([np.ones(1000)] * 50))
    assert whole.fingerprinted == 3 and len(whole.places) == 50, "there is time to look at the others"


def test_a_split_has_what_was_read_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_samples, "FEWEST", 3)
    monkeypatch.setattr(drawn_samples, "MOST", 3)
    monkeypatch.setattr(drawn_samples, "SECONDS", -1.0)
    reading = Reading(Listed(list(range(50))))
    drew = Drew(reading, np.array([7, 49, 8, 24]))
    assert drew.places.tolist() == [1, 3] and drew.inputs.tolist() == [reading.inputs[2], reading.inputs[1]]
    assert drew.input_bytes(np.array([1])) == reading.input_bytes(np.array([49]))
    assert Drew(Reading(Listed([])), np.arange(0)).places.tolist() == []
