"""What a trained model says to files or words. Runs in a warm trial process, because it needs torch."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from studies.components import build_datamodule, build_module, sizes_of
from studies.trial import load_weights


def predict(payload: dict[str, Any]) -> dict[str, Any]:
    """Asks a model.

    Args:
        payload: `experiment` (its sections), `seed`, `checkpoint` (path), `items` (files or words).

    Returns:
        `predictions`, each with `input`, `notes`, `answer` and, where there are, `probability` and
        `probabilities`; or `error` (one line).
    """
    try:
        module, datamodule = restore(payload)
        for name, item in (("inputs", datamodule), ("answers", module)):
            if not hasattr(item, name):
                raise ValueError(f"{type(item).__name__} has no method {name}, which predicting needs")
        batch, names, notes = datamodule.inputs(payload["items"])  # type: ignore[attr-defined]
        answers = module.answers(batch)  # type: ignore[operator]
    except (ValueError, OSError) as error:
        return {"error": " ".join(str(error).split())}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    rows = zip(names, notes, answers, strict=True)
    return {"predictions": [{"input": name, "notes": said, **answer} for name, said, answer in rows]}


def restore(payload: dict[str, Any]) -> tuple[LightningModule, LightningDataModule]:
    """A trained module, ready to be asked, and its datamodule, set up."""
    datamodule = build_datamodule(payload["experiment"]["data"], payload["seed"])
    module = build_module(payload["experiment"]["model"], sizes_of(datamodule))
    load_weights(module, Path(payload["checkpoint"]))
    return module.eval(), datamodule
