"""Pictures of a trained module, drawn from its best weights."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from studies.common.errors import disk_is_full
from studies.common.redaction import redacted
from studies.common.text import error_text
from studies.protocol.channel import Channel
from studies.protocol.event_log import NAME, EventReader
from studies.protocol.events import Artifact, Metrics
from studies.protocol.trial_spec import TrialSpec


def print_traceback() -> None:
    """Prints the traceback to log.txt, even if user code has closed or replaced stderr."""
    text = redacted(traceback.format_exc())
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        with contextlib.suppress(OSError), open(2, "wb", closefd=False) as output:
            output.write(text.encode("utf-8", "backslashreplace"))


def draw_pictures(
    spec: TrialSpec, channel: Channel, module: LightningModule, datamodule: LightningDataModule | None
) -> None:
    """Draws the module's `pictures(dataloader)` on the validation data, and its learning curves.

    A failing picture only logs a warning: the trained model must not be lost.
    """
    folder = Path(spec.folder) / "artifacts" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    series: dict[str, tuple[list[int], list[float]]] = {}
    for event in EventReader(Path(spec.folder) / NAME).read():
        if isinstance(event, Metrics):
            for name, value in event.values.items():
                if name == "epoch":
                    continue
                steps, values = series.setdefault(name, ([], []))
                steps.append(event.step)
                values.append(value)
    try:
        from studies.plots import figure as figures
        from studies.plots import registry as pictures

        drawings: dict[str, Any] = {"learning_curves": {"series": series}} if series else {}
        if hasattr(module, "pictures") and datamodule is not None:
            drawings |= module.pictures(_validated(module.trainer, datamodule.val_dataloader()))  # type: ignore[operator]
        for name, arguments in drawings.items():
            figure = pictures.draw(name, **arguments) if isinstance(arguments, dict) else arguments
            figures.save(figure, folder / f"{name}.png")
            channel.emit(Artifact(f"pictures/{name}.png", "picture"))
    except Exception as error:
        if disk_is_full(error):
            raise
        with contextlib.suppress(Exception):  # user code may have turned warnings into errors, or closed stderr
            warnings.warn(f"pictures are missing: {error_text(error)}", stacklevel=1)
        print_traceback()


def _validated(trainer: Trainer, dataloader: Any) -> Any:
    """The batches that a fit validates on (limit_val_batches applies), so that pictures match the metrics."""
    batches = sum(trainer.num_val_batches)
    whole = not 0 < batches < math.inf or not hasattr(dataloader, "__len__") or batches >= len(dataloader)
    return dataloader if whole else _FirstBatches(dataloader, int(batches))


class _FirstBatches:
    """The first few batches of a dataloader, each time it is iterated."""

    def __init__(self, dataloader: Any, count: int) -> None:
        self._dataloader, self._count = dataloader, count

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._dataloader, self._count)
