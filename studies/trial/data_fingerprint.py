"""Fingerprints of data sets: a digest of the samples, their number, and how often each class occurs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studies.trial.drawn_samples import Drew, Reading, Unreadable
from studies.trial.samples import CLASSES, Drawn, Held, Part, evenly, parts_of

DIGITS = 12  # hexadecimal; digests of older versions have 8

GLANCED = 4096  # values of a tensor that tell, at a glance, whether it is the one that another process has hashed

Known = Mapping[str, Mapping[str, Any]]  # split -> Fingerprint.known, from another process


@dataclass
class Fingerprint:
    """What a split's samples are.

    Attributes:
        digest: hexadecimal digits, equal for equal samples in the same order.
        samples: their number; None if it is not known.
        read: how many of them the digest covers; 0: it tells classes and sizes alone.
        classes: class number -> how many samples have it, if targets are classes.
        unread: why samples were not read, in a few words each.
        looked_at: what was read of each part, for studies.trial.data_overlap; `totals`: samples of each, 0 if unknown.
        known: what `fingerprint` needs in a process that must not draw samples, and has no time to hash them all.
    """

    digest: str
    samples: int | None
    read: int
    classes: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    looked_at: list[Held | Drew | None] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)


def fingerprint(
    split: str,
    loaders: Any,
    known: Known | None = None,
    readings: dict[int, Reading] | None = None,
    read: Callable[[Any], Reading] = Reading,
) -> Fingerprint | None:
    """The fingerprint of a split; None if it has no loader.

    Args:
        split: train, val or test.
        known: of each split, what the preflight check found. It holds if the data are the same at a glance; if they
            are not, tensors are hashed, and no other samples are asked for. None: ask for samples.
        readings: by id of a data set, what was read of it for another split; further ones are added.
        read: reads a data set.
    """
    parts = parts_of(loaders)
    if not parts:
        return None
    glance, before = _glance(parts), {} if known is None else known.get(split, {})
    if before.get("glance") == glance:
        return Fingerprint(before["digest"], before["samples"], before["read"], dict(before["classes"]))
    found, digests = Fingerprint("", 0, 0), []
    for number, part in enumerate(parts):
        if isinstance(part, Held):
            found.looked_at.append(part)
            found.read += len(part.places)
            digests.append(_digest(f"tensors {part.total}", part.contents()))
            continue
        digest, why = None, "a stream is not read"
        if isinstance(part, Drawn):
            if known is None:
                digest, why = _read(part, str(number), found, {} if readings is None else readings, read)
            else:
                digest = _read_before(part, before.get("parts", {}).get(str(number), {}), found)
                why = "other data than those of the preflight check are not drawn"
        if digest is None:
            found.unread.append(why)
        if len(found.looked_at) == number:
            found.looked_at.append(None)
        source = part.dataset if isinstance(part, Drawn) else part.source
        chosen = part.chosen if isinstance(part, Drawn) else None
        digest = digest or f"unread {type(source).__qualname__}"
        digests.append(_digest(digest, f"{part.total}", b"" if chosen is None else chosen.tobytes(), _listed(part)))
    totals = [part.total for part in parts]
    found.totals = [total or 0 for total in totals]
    found.samples = None if None in totals else sum(total for total in totals if total is not None)
    found.digest = digests[0] if len(digests) == 1 else _digest("several", *digests)
    found.classes = _classes(parts)
    found.known |= {"glance": glance, "digest": found.digest, "samples": found.samples, "read": found.read}
    found.known["classes"] = found.classes
    return found


def _read(
    part: Drawn, name: str, found: Fingerprint, readings: dict[int, Reading], read: Callable[[Any], Reading]
) -> tuple[str | None, str]:
    """The digest of a data set, by reading it unless that was done; or None, and why it cannot be read."""
    try:
        reading = readings.get(id(part.dataset)) or read(part.dataset)
    except Unreadable as error:
        return None, str(error)
    readings[id(part.dataset)] = reading
    digest = reading.digest.hex()
    found.looked_at.append(Drew(reading, part.chosen))
    found.read += min(reading.fingerprinted, part.total)
    found.known.setdefault("parts", {})[name] = {"digest": digest, "read": reading.fingerprinted, "kind": _kind(part)}
    return digest, ""


def _read_before(part: Drawn, before: Mapping[str, Any], found: Fingerprint) -> str | None:
    """The digest of a data set that another process has read."""
    if before.get("kind") != _kind(part):
        return None
    found.read += min(int(before["read"]), part.total)
    return str(before["digest"])


def _glance(parts: list[Part]) -> str:
    """Differs where data differ in type, size or order, or in any of some values of their tensors."""
    contents: list[str | bytes] = []
    for part in parts:
        chosen = getattr(part, "chosen", None)
        contents += [f"{type(part).__name__} {part.total}", b"" if chosen is None else chosen.tobytes()]
        if isinstance(part, Drawn):
            contents.append(_kind(part))
        elif isinstance(part, Held):
            for tensor in part.tensors:
                contents += [f"{tensor.dtype} {tuple(tensor.shape)}", _some_values(tensor)]
    return _digest(*contents)


def _some_values(tensor: Tensor) -> bytes:
    values = tensor.detach().reshape(-1)
    places = torch.from_numpy(evenly(len(values), GLANCED))
    return values[places.to(values.device)].cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _kind(part: Drawn) -> str:
    """Tells another kind of data set, or another number of samples."""
    return f"{type(part.dataset).__qualname__} {len(part.dataset)}"


def _listed(part: Part) -> bytes:
    targets = part.targets()
    return b"" if targets is None else targets.tobytes()


def _digest(*contents: str | bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content.encode() if isinstance(content, str) else content)
        digest.update(b"\0")
    return digest.hexdigest()[:DIGITS]


def _classes(parts: list[Part]) -> dict[str, int]:
    with contextlib.suppress(Exception):  # targets of any kind
        targets = [part.targets() for part in parts]
        if all(target is not None for target in targets):
            values, counts = np.unique(np.concatenate([t for t in targets if t is not None]), return_counts=True)
            if len(values) in CLASSES:
                return {str(value): int(count) for value, count in zip(values, counts, strict=True)}
    return {}
