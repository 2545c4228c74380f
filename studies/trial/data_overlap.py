"""Finds samples that are in two of a run's splits: equal inputs, byte for byte.

Hashes are compared first, all at once; samples with equal hashes are then compared themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studies.trial.data_fingerprint import Fingerprint

PAIRS = (("val", "train"), ("test", "train"), ("test", "val"))
VERIFIED = 1000  # equal hashes that are compared byte by byte; two of 64 bits are hardly ever equal by chance


def overlaps(splits: Mapping[str, Fingerprint]) -> list[str]:
    """A line about each two splits with equal samples."""
    found = []
    for one, other in PAIRS:
        if one in splits and other in splits:
            line = _overlap(one, splits[one], other, splits[other])
            found += [line] if line else []
    return found


def _overlap(one: str, of_one: Fingerprint, other: str, of_other: Fingerprint) -> str | None:
    hashes, places = _all(of_one)
    others, other_places = _all(of_other)
    if not len(hashes) or not len(others):
        return None
    order = np.argsort(others, kind="stable")  # the first of equal samples is named
    at = np.searchsorted(others[order], hashes).clip(max=len(others) - 1)
    hits = np.flatnonzero(others[order][at] == hashes)
    if not len(hits):
        return None
    pairs = [(int(places[hit]), int(other_places[order[at[hit]]])) for hit in hits.tolist()]
    equal = _equal(pairs[:VERIFIED], of_one, of_other)
    if not equal:
        return None
    count = len(pairs) - (len(pairs[:VERIFIED]) - len(equal))
    whole = "" if len(hashes) == of_one.samples else f" that were looked at, of {of_one.samples},"
    part = "" if len(others) == of_other.samples else f" ({len(others)} of {of_other.samples} were looked at)"
    samples, are = ("sample", "is") if len(hashes) == 1 else ("samples", "are")
    example = f"{one}[{equal[0][0]}] = {other}[{equal[0][1]}]"
    return f"{count} of {len(hashes)} {one} {samples}{whole} {are} also in {other}{part}, e.g. {example}"


def _all(split: Fingerprint) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all inputs that were looked at, uint64 (n,), and their places in the split, int64 (n,)."""
    hashes, places, before = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    for part, total in zip(split.looked_at, split.totals, strict=True):
        if part is not None:
            hashes.append(part.inputs)
            places.append(part.places + before)
        before += total
    return np.concatenate(hashes), np.concatenate(places)


def _equal(pairs: list[tuple[int, int]], of_one: Fingerprint, of_other: Fingerprint) -> list[tuple[int, int]]:
    """The pairs whose inputs are equal."""
    firsts = _inputs(of_one, [place for place, _ in pairs])
    seconds = _inputs(of_other, [place for _, place in pairs])
    return [pair for pair, first, second in zip(pairs, firsts, seconds, strict=True) if first == second]


def _inputs(split: Fingerprint, places: list[int]) -> list[bytes]:
    """The inputs at some places of a split."""
    wanted, before = np.array(places), 0
    found: dict[int, bytes] = {}
    for part, total in zip(split.looked_at, split.totals, strict=True):
        inside = np.unique(wanted[(wanted >= before) & (wanted < before + total)])
        if part is not None and len(inside):
            found |= dict(zip(inside.tolist(), part.input_bytes(inside - before), strict=True))
        before += total
    return [found[place] for place in places]
