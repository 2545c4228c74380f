"""Looks at an experiment's data in the preflight check: fingerprints, and samples that are in two splits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from studies.common.text import error_text
from studies.trial.data_fingerprint import Fingerprint, fingerprint
from studies.trial.data_overlap import overlaps
from studies.trial.drawn_samples import Reading
from studies.trial.instantiate import Parts
from studies.trial.reading_cache import ReadingCache
from studies.trial.run import why_no_test


def examine_data(parts: Parts, trainer: Trainer, cache: ReadingCache) -> dict[str, Any]:
    """What the data are, after a fit of `trainer`, in a process that trains nothing else: samples are drawn.

    Returns:
        `splits`: split -> Fingerprint.known; `overlap`: a line for each two splits with equal samples; `notes`: lines
        about data that could not be looked at.
    """
    found: dict[str, Fingerprint] = {}
    readings: dict[int, Reading] = {}
    notes = []
    loaders_of: dict[str, Callable[[], Any]] = {
        "train": lambda: trainer.train_dataloader,
        "val": lambda: trainer.val_dataloaders,
        "test": lambda: loaders_of_test(parts),
    }
    for split, loaders in loaders_of.items():
        try:
            seen = fingerprint(split, loaders(), readings=readings, read=cache.read)
        except Exception as error:  # data sets and loaders may be of any class
            notes.append(f"the {split} data could not be looked at: {' '.join(error_text(error).split())}")
            continue
        if seen is not None:
            found[split] = seen
            notes += [f"the {split} data have no fingerprint: {why}" for why in dict.fromkeys(seen.unread)]
    overlap = []
    with contextlib.suppress(Exception):  # as above
        overlap = overlaps(found)
    return {"splits": {split: seen.known for split, seen in found.items()}, "overlap": overlap, "notes": notes}


def loaders_of_test(parts: Parts) -> Any:
    """The test set's loaders, made as a test makes them; None if there is no test."""
    if why_no_test(parts.module, parts.datamodule) is not None:
        return None
    holder: Any = parts.module if parts.datamodule is None else parts.datamodule
    if not isinstance(holder, LightningModule):
        holder.setup("test")
    return holder.test_dataloader()
