"""Whether data are those that a run or a study was trained on, by their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OVERLAP = "harness.overlap"  # tag of a run: samples that are in two of its splits

Digests = Mapping[str, str]  # split -> digest


def digests_of(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The digests of the splits whose samples were read; the others only tell kind and size."""
    return {split: str(found["digest"]) for split, found in splits.items() if found.get("read")}


def data_changed(before: Digests, now: Digests) -> str | None:
    """A line for the user if a split that is in both differs, else None."""
    changes = [
        f"{split} {before[split]} -> {now[split]}"
        for split in ("train", "val", "test")
        if split in before and split in now and before[split] != now[split]
    ]
    return f"data changed since: {', '.join(changes)}" if changes else None
