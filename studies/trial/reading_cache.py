"""Keeps what was read of data sets, so that the same files need not be decoded at each start.

A reading is kept under a key of everything that decides the samples: the experiment's section and seed, the user's
code, versions of libraries, and path, size and time of each file that the data set or the section names. A data set
that names no file is read each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studies.common.atomic_files import temporary_name
from studies.common.sources import origin_of
from studies.trial.drawn_samples import Reading

FILES = 20_000  # with more, a data set is read each time
KEPT = 20  # readings
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "studies-harness")  # that decode and augment


class ReadingCache:
    """Readings in a folder.

    Args:
        folder: in the state folder; it is not made before the state folder is there. None: keep nothing.
        sections: the experiment's.
        search_path: folders of the user's modules.
    """

    def __init__(self, folder: Path | None, sections: dict[str, Any], seed: int, search_path: list[str]) -> None:
        self._folder = folder if folder is not None and folder.parent.is_dir() else None
        self._section: Any = sections.get("data") or sections["model"]
        places = [Path(place) for place in search_path]
        code = origin_of(Path("x"), sections, places, Path("x"))["code"] if places else {}
        self._about = [self._section, seed, code, [_version(name) for name in LIBRARIES]]

    def read(self, dataset: Any) -> Reading:
        """What is kept of a data set; it is read if nothing is. See Reading."""
        path = self._path(dataset)
        if path is None:
            return Reading(dataset)
        with contextlib.suppress(Exception):  # not there, cut short, or of another version
            with np.load(path, allow_pickle=False) as kept:
                reading = Reading.kept(
                    dataset, kept["places"], kept["inputs"], kept["digest"].tobytes(), int(kept["count"])
                )
            os.utime(path)
            return reading
        reading = Reading(dataset)
        with contextlib.suppress(OSError):  # a full disk, for example: it is read again
            self._keep(path, reading)
        return reading

    def _path(self, dataset: Any) -> Path | None:
        files = None if self._folder is None else _files([self._section, getattr(dataset, "__dict__", {})])
        if not files or self._folder is None:
            return None
        kind = [f"{type(dataset).__module__}.{type(dataset).__qualname__}", len(dataset)]
        text = json.dumps([self._about, kind, files], default=str, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"

    def _keep(self, path: Path, reading: Reading) -> None:
        path.parent.mkdir(exist_ok=True)
        temporary = temporary_name(path)
        try:
            with open(temporary, "wb") as file:
                digest = np.frombuffer(reading.digest, np.uint8)
                np.savez(file, places=reading.places, inputs=reading.inputs, digest=digest, count=reading.fingerprinted)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for old in sorted(path.parent.glob("*.npz"), key=lambda item: item.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _files(values: Any) -> list[tuple[str, int, int]] | None:
    """Path, size and time of all files that are named somewhere in the values, also of those in named folders.

    None if there are too many.
    """
    found: dict[str, tuple[str, int, int]] = {}
    seen: set[str] = set()
    for name in _texts(values, depth=4):
        if name in seen:
            continue
        seen.add(name)
        for path in _below(name):
            with contextlib.suppress(OSError, ValueError):
                status = os.stat(path)
                found[path] = (path, status.st_size, status.st_mtime_ns)
            if len(found) > FILES:
                return None
    return sorted(found.values())


def _below(name: str) -> Iterator[str]:
    with contextlib.suppress(OSError, ValueError):
        if os.path.isfile(name):
            yield os.path.abspath(name)
        elif os.path.isdir(name):
            for folder, _, names in os.walk(name):
                yield from (os.path.abspath(os.path.join(folder, each)) for each in names)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth - 1)
