"""Draws samples from a map-style data set, to fingerprint them: evenly spaced ones, with a fixed random state.

Augmentation draws random numbers, so this runs in the preflight check's process, never in a training's; the fixed state
makes the samples the same each time. A data set whose samples still differ when drawn again is not fingerprinted.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studies.trial.random_states import random_states, restore_random_states
from studies.trial.samples import evenly

FEWEST, MOST = 256, 4096  # samples that are fingerprinted of a large data set
BYTES = 16 << 20  # of the fingerprinted samples, where they are large
SECONDS = 1.0  # for further samples, in which overlap is looked for
AGAIN = 4  # samples that are drawn a second time
TARGETS = ("label", "labels", "target", "targets", "y")  # keys of samples that are dictionaries


class Unreadable(ValueError):
    """Why the samples of a data set cannot be fingerprinted, in a few words."""


class Reading:
    """Hashes of samples of a data set.

    Attributes:
        places: the indices that were read, int64 (n,), in ascending order.
        inputs: hashes of the inputs there, uint64 (n,).
        fingerprinted: how many of them the fingerprint covers.
        digest: equal for equal samples, as far as they are fingerprinted.

    Raises:
        Unreadable: the samples are of a kind without stable content, or differ when drawn again.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        with _same_randomness():
            chosen = self._chosen()
            pairs = {place: _hashed(self._sample(place)) for place in chosen}
            self.fingerprinted = len(pairs)
            self.digest = hashlib.sha256(np.array(list(pairs.values()), np.uint64).tobytes()).digest()
            until = time.monotonic() + SECONDS
            for place in range(len(dataset)):
                if time.monotonic() > until:
                    break
                if place not in pairs:
                    pairs[place] = _hashed(self._sample(place))
        self.places = np.array(sorted(pairs), np.int64)
        self.inputs = np.array([pairs[place][0] for place in sorted(pairs)], np.uint64)

    @classmethod
    def kept(cls, dataset: Any, places: np.ndarray, inputs: np.ndarray, digest: bytes, fingerprinted: int) -> Reading:
        """A reading from another process, with these attributes."""
        if not len(places) == len(inputs) >= fingerprinted or (len(places) and places.max() >= len(dataset)):
            raise ValueError("not a reading of this data set")
        reading = cls.__new__(cls)
        reading.dataset, reading.places, reading.inputs = dataset, places, inputs
        reading.digest, reading.fingerprinted = digest, fingerprinted
        return reading

    def input_bytes(self, indices: np.ndarray) -> list[bytes]:
        """The inputs of some samples."""
        with _same_randomness():
            return [b"".join(_bytes(_split(self._sample(index))[0])) for index in indices.tolist()]

    def _chosen(self) -> list[int]:
        total = len(self.dataset)
        if not total:
            return []
        few = evenly(total, AGAIN).tolist()
        if [_hashed(self._sample(index)) for index in few] != [_hashed(self._sample(index)) for index in few]:
            raise Unreadable("its samples differ each time they are drawn")
        size = sum(map(len, _bytes(self._sample(0))))
        chosen: list[int] = evenly(total, min(MOST, max(FEWEST, BYTES // max(1, size)))).tolist()
        return chosen

    def _sample(self, index: int) -> Any:
        """A sample, drawn with random numbers that depend on its index alone."""
        random.seed(index)
        np.random.seed(index % 2**32)
        torch.default_generator.manual_seed(index)  # torch.manual_seed takes a millisecond, to seed devices not in use
        return self.dataset[index]


class Drew:
    """What was read of the samples that are those of a split; as `samples.Held` has it.

    Args:
        chosen: the data set's indices that are the split's samples, int64 (M,); None: all.
    """

    def __init__(self, reading: Reading, chosen: np.ndarray | None) -> None:
        self._reading, self._chosen = reading, chosen
        if chosen is None:
            self.places, self.inputs = reading.places, reading.inputs
            return
        if not len(reading.places):
            self.places, self.inputs = np.arange(0), np.zeros(0, np.uint64)
            return
        at = np.searchsorted(reading.places, chosen).clip(max=len(reading.places) - 1)
        self.places = np.flatnonzero(reading.places[at] == chosen)
        self.inputs = reading.inputs[at[self.places]]

    def input_bytes(self, places: np.ndarray) -> list[bytes]:
        return self._reading.input_bytes(places if self._chosen is None else self._chosen[places])


@contextlib.contextmanager
def _same_randomness() -> Iterator[None]:
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)


def _hashed(sample: Any) -> tuple[int, int]:
    """Hashes of a sample's inputs and of the whole sample."""
    inputs, targets = _split(sample)
    digest = hashlib.blake2b(digest_size=8)
    for part in _bytes(inputs):
        digest.update(part)
    of_inputs = digest.digest()
    for part in _bytes(targets):
        digest.update(part)
    return int.from_bytes(of_inputs, "little"), int.from_bytes(digest.digest(), "little")


def _split(sample: Any) -> tuple[Any, Any]:
    """Inputs and targets; a sample that does not tell them apart is all inputs."""
    if isinstance(sample, tuple | list) and len(sample) > 1:
        return sample[0], sample[1:]
    if isinstance(sample, Mapping) and (inputs := {key: sample[key] for key in sample if key not in TARGETS}):
        return inputs, {key: sample[key] for key in sample if key in TARGETS}
    return sample, None


def _bytes(value: Any) -> Iterator[bytes | memoryview]:
    """The content of a sample, with its types.

    Raises:
        Unreadable: a value has none that could be compared.
    """
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        yield f"tensor {array.dtype} {tuple(array.shape)} ".encode()
        yield array.reshape(-1).view(torch.uint8).numpy().data if array.numel() else b""
    elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        yield f"array {value.dtype} {value.shape} ".encode()
        yield value.tobytes()
    elif isinstance(value, bytes | str | int | float | complex | None):
        yield f"{type(value).__name__} {value!r} ".encode("utf-8", "surrogatepass")
    elif isinstance(value, Mapping):
        yield b"{"
        for key in value:
            yield from _bytes(str(key))
            yield from _bytes(value[key])
        yield b"}"
    elif isinstance(value, list | tuple):
        yield b"["
        for item in value:
            yield from _bytes(item)
        yield b"]"
    elif hasattr(value, "tobytes") and hasattr(value, "size") and hasattr(value, "mode"):  # an image of Pillow
        yield f"image {value.mode} {value.size} ".encode()
        yield value.tobytes()
    else:
        raise Unreadable(f"its samples hold a {type(value).__name__}")
