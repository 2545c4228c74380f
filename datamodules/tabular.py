"""Tabular data with a number or class to predict, from scikit-learn's bundled datasets."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.in_memory_loader import InMemoryLoader

Dataset = Literal["diabetes", "breast_cancer", "digits", "moons", "circles", "blobs"]

MADE = 1000  # samples of the generated datasets: moons, circles, blobs


class Tabular(pl.LightningDataModule):
    """One of scikit-learn's bundled datasets, split into 60% training, 20% validation and 20% test rows.

    Batches are (features, targets) on the trainer's device: float32 (B, features), in their own units, and
    float32 (B,) for numbers or int64 (B,) for classes. Means and scales of the training rows, with which a model
    standardizes features, are among the `sizes`.

    Args:
        dataset: `diabetes` (442 patients, 10 features; a number, the progression of the disease after a year),
            `breast_cancer` (569 tumours, 30 features; malignant or benign), `digits` (1797 images of 8x8 pixels,
            64 features; 10 classes), or two features and two classes generated from a seed: `moons` (two interleaved
            half circles), `circles` (concentric), `blobs` (linearly separable).
        batch_size: rows per training batch, >= 1; at most the number of training rows is used.
        noise: standard deviation of noise added to moons and circles, >= 0.
        seed: decides the order of the training rows, >= 0.
        split_seed: decides which rows are held out, and generates moons, circles and blobs, >= 0.

    Raises:
        ValueError: an argument is outside its range.
    """

    harness_links = ("seed", "sizes")  # filled in by studies/trial/instantiate.py
    keeps_no_state = True  # so trials may share a process: all state is in instances

    def __init__(
        self,
        dataset: Dataset = "diabetes",
        batch_size: int = 32,
        noise: float = 0.2,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        if dataset not in get_args(Dataset):
            raise ValueError(f"dataset must be one of {', '.join(get_args(Dataset))}, but got {dataset=}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but got {batch_size=}")
        if noise < 0:
            raise ValueError(f"noise must be at least 0, but got {noise=}")
        for name, value in (("seed", seed), ("split_seed", split_seed)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but got {name}={value}")
        self.dataset, self.batch_size, self.noise = dataset, batch_size, noise
        self.seed, self.split_seed = seed, split_seed
        self.feature_names: list[str] = []
        self.class_names: list[str] | None = None
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str) -> None:
        """Loads and splits the dataset, once; stratified if there are classes."""
        if self.parts:
            return
        from sklearn.model_selection import train_test_split

        features, targets, self.feature_names, self.class_names = SOURCES[self.dataset](self.split_seed, self.noise)
        kind = torch.float32 if self.class_names is None else torch.int64
        rows = np.arange(len(targets))

        def split(rows: np.ndarray, share: float) -> list[np.ndarray]:
            strata = None if self.class_names is None else targets[rows]
            return train_test_split(rows, test_size=share, random_state=self.split_seed, stratify=strata)

        rest, test = split(rows, 0.2)
        train, validation = split(rest, 0.25)
        for name, chosen in (("train", train), ("validation", validation), ("test", test)):
            tensors = torch.tensor(features[chosen], dtype=torch.float32), torch.tensor(targets[chosen], dtype=kind)
            self.parts[name] = tensors

    @property
    def sizes(self) -> dict[str, Any]:
        """Data-derived arguments of a model; valid after `setup`."""
        features, targets = self.parts["train"]
        scale = features.std(dim=0, correction=0)
        sizes: dict[str, Any] = {
            "input_shape": [features.shape[1]],
            "input_mean": features.mean(dim=0).tolist(),
            "input_scale": torch.where(scale > 0, scale, 1.0).tolist(),  # 1 for constant features
            "num_classes": None if self.class_names is None else len(self.class_names),
            "class_names": self.class_names,
        }
        if self.class_names is None:
            sizes |= {"target_mean": float(targets.mean()), "target_scale": float(targets.std(correction=0))}
        return sizes

    def train_dataloader(self) -> InMemoryLoader:
        tensors = self._resident("train")
        size = min(self.batch_size, len(tensors[0]))
        return InMemoryLoader(tensors, size, shuffle=True, seed=self.seed, drop_last=True)

    def val_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(self._resident("validation"), 500)

    def test_dataloader(self) -> InMemoryLoader:
        return InMemoryLoader(self._resident("test"), 500)

    def predict_dataloader(self) -> InMemoryLoader:
        return self.test_dataloader()

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch from the rows of CSV files with a header line, for a trained model.

        Columns may be in any order; columns that are not features are ignored. Valid after setup.

        Returns:
            features float (N, features), FILE:LINE of each row, and no notes.

        Raises:
            ValueError: in one line: no such file, no rows, a missing feature column, or a non-numeric value.
        """
        rows, names = [], []
        for item in items:
            for line, row in _read_csv(Path(item), self.feature_names):
                rows.append(row)
                names.append(f"{item}:{line}")
        return torch.tensor(rows, dtype=torch.float32), names, [[] for _ in names]

    def _resident(self, part: str) -> tuple[Tensor, ...]:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return tuple(tensor.to(device) for tensor in self.parts[part])


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[float]]]:
    """Line number and the values of these columns, for each row of a file."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a file with a byte order mark
        reader = csv.DictReader(file)
        try:
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no CSV file: {error}") from error
        if missing:
            needed = "its first line must name them" if missing == list(columns) else f"it needs {', '.join(columns)}"
            raise ValueError(f"{path} lacks the columns {', '.join(missing)} ({needed})")
        empty = True
        for row in _rows(reader, path):
            empty = False
            for name in columns:
                try:
                    if not abs(float(row[name])) <= FLOAT32_MAX:  # NaN is not, either
                        raise ValueError
                except (TypeError, ValueError):
                    value = row[name]
                    raise ValueError(
                        f"{path}:{reader.line_num}: {name} must be a finite number, but got {value!r}"
                    ) from None
            yield reader.line_num, [float(row[name]) for name in columns]
        if empty:
            raise ValueError(f"{path} has no rows")


def _rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}:{reader.line_num} is no CSV: {error}") from error


FLOAT32_MAX = 3.4028234e38
Table = tuple[np.ndarray, np.ndarray, list[str], list[str] | None]  # features, targets, feature names, class names


def _bundled(name: str) -> Callable[[int, float], Table]:
    def load(seed: int, noise: float) -> Table:
        from sklearn import datasets

        loader = getattr(datasets, f"load_{name}")
        table = loader(scaled=False) if name == "diabetes" else loader()
        classes: Sequence[Any] | None = getattr(table, "target_names", None)
        names = None if classes is None else [str(item) for item in classes]
        return table.data, table.target, [str(item) for item in table.feature_names], names

    return load


def _made(make: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Callable[[int, float], Table]:
    def load(seed: int, noise: float) -> Table:
        features, targets = make(seed, noise)
        return features, targets, ["x1", "x2"], ["0", "1"]

    return load


def _moons(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_moons

    return make_moons(MADE, noise=noise, random_state=seed)


def _circles(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_circles

    return make_circles(MADE, noise=noise, factor=0.4, random_state=seed)


def _blobs(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_blobs

    return make_blobs(MADE, centers=[[-1.5, -1.0], [1.5, 1.0]], cluster_std=0.7, random_state=seed)


SOURCES: dict[str, Callable[[int, float], Table]] = {
    "diabetes": _bundled("diabetes"),
    "breast_cancer": _bundled("breast_cancer"),
    "digits": _bundled("digits"),
    "moons": _made(_moons),
    "circles": _made(_circles),
    "blobs": _made(_blobs),
}
