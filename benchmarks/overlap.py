"""How long it takes to find overlap between splits: 12 of 10,000 test images planted among 60,000 training images.

    .venv/bin/python benchmarks/overlap.py

Of random images of MNIST's size, once held in tensors, once drawn one by one from a map-style data set, of
which as many are looked at as there is time for. Floor: 5 s.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from studies.trial.data_fingerprint import fingerprint
from studies.trial.data_overlap import overlaps

PLANTED = 12


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images that are converted when they are asked for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].float() / 255, int(self.labels[index])


def main() -> None:
    random = np.random.default_rng(0)
    train, test = (torch.from_numpy(random.integers(0, 256, (n, 28, 28), np.uint8)) for n in (60_000, 10_000))
    test[random.choice(10_000, PLANTED, replace=False)] = train[random.choice(60_000, PLANTED, replace=False)]
    labels = torch.from_numpy(random.integers(0, 10, 60_000))
    for name, kind in (("held in tensors", TensorDataset), ("drawn one by one", OneByOne)):
        began, cpu = time.perf_counter(), time.process_time()
        splits = {}
        for split, images in (("train", train), ("test", test)):
            found = fingerprint(split, DataLoader(kind(images, labels[: len(images)]), 128), readings={})
            assert found is not None
            splits[split] = found
        lines = overlaps(splits)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"{name}: {seconds:.2f} s ({cpu:.2f} s of CPU): {'; '.join(lines) or 'no overlap found'}")


if __name__ == "__main__":
    main()
