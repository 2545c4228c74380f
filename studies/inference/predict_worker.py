"""Predictions of a trained model for files or words. Runs in a warm trial process, because it needs torch."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from studies.common.search_path import use
from studies.config.yaml_io import load_yaml
from studies.inference.restored_classes import restricted
from studies.trial.instantiate import build
from studies.trial.weights import restore_weights


def predict(payload: dict[str, Any]) -> dict[str, Any]:
    """Predicts with a model.

    Args:
        payload: `experiment` (its sections, as YAML), `seed`, `checkpoint` (path), `search_path` and `items` (files or
            words).

    Returns:
        `predictions`, each with `input`, `notes`, `answer` and, if available, `probability` and
        `probabilities`; or `error` (one line).
    """
    try:
        _, predictions = ask(*restore(payload), payload["items"])
    except Exception as error:
        return {"error": in_a_line(error)}
    return {"predictions": predictions}


def ask(
    module: LightningModule, datamodule: LightningDataModule, items: Sequence[str]
) -> tuple[Any, list[dict[str, Any]]]:
    """The batch that a datamodule makes from the items, and the module's answer to each.

    Raises:
        ValueError: in one line: an item cannot be read, or module or datamodule do not support prediction.
    """
    check(module, datamodule)
    batch, names, notes = datamodule.inputs(items)  # type: ignore[attr-defined]
    rows = zip(names, notes, module.answers(batch), strict=True)  # type: ignore[operator]
    return batch, [{"input": name, "notes": said, **answer} for name, said, answer in rows]


def check(module: LightningModule, datamodule: LightningDataModule) -> None:
    """Raises a ValueError if module or datamodule do not support prediction."""
    for name, item in (("inputs", datamodule), ("answers", module)):
        if not hasattr(item, name):
            raise ValueError(f"{type(item).__name__} has no method {name}, which prediction needs")


def in_a_line(error: Exception) -> str:
    """One line about the error for the user; the traceback of unexpected errors goes to stderr."""
    line = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError)):
        return line
    traceback.print_exception(error)
    return f"{type(error).__name__}: {line}"


def restore(payload: dict[str, Any]) -> tuple[LightningModule, LightningDataModule]:
    """A trained module in eval mode, and its datamodule, set up."""
    use(payload.get("search_path") or [])
    sections = load_yaml(payload["experiment"])
    parts = build(sections if payload.get("trusted") else restricted(sections), payload["seed"], trainer=False)
    if parts.datamodule is None:
        raise ValueError(f"{type(parts.module).__name__} has no datamodule, which is needed to read inputs")
    try:
        restore_weights(parts, Path(payload["checkpoint"]))
    except RuntimeError as error:  # how load_state_dict says that they do not fit
        what = f"{payload['checkpoint']} does not fit {type(parts.module).__name__}"
        raise ValueError(f"{what}: {' '.join(str(error).split())[:300]}") from error
    return parts.module.eval(), parts.datamodule
