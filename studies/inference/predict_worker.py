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
from studies.trial.instantiate import Parts, build
from studies.trial.weights import restore_weights


def predict(payload: dict[str, Any]) -> dict[str, Any]:
    """Predicts with a model.

    Args:
        payload: `experiment` (its sections, as YAML), `seed`, `checkpoint` (path), `search_path` and `items` (files or
            words).

    Returns:
        `predictions`, each with `input`, `notes`, `answer` and, if available, `probability` and
        `probabilities`; `errors`, the items that cannot be read, each with `input` and `error` (one line). Or `error`
        alone, if nothing can be answered.
    """
    try:
        module, datamodule = restore(payload)
        check(module, datamodule)
        good, errors = sorted_out(datamodule, payload["items"])
        if not good:
            return {"error": "; ".join(each["error"] for each in errors)}
        _, predictions = ask(module, datamodule, good)
    except Exception as error:
        return {"error": in_a_line(error)}
    return {"predictions": predictions, "errors": errors}


def sorted_out(datamodule: LightningDataModule, items: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The items that a datamodule can read, and `input` and `error` of each of the others."""
    try:
        datamodule.inputs(items)  # type: ignore[attr-defined]
        return list(items), []
    except (ValueError, OSError):
        if len(items) == 1:
            raise
    good, errors = [], []
    for item in items:
        try:
            datamodule.inputs([item])  # type: ignore[attr-defined]
            good.append(item)
        except (ValueError, OSError) as error:
            errors.append({"input": item, "error": in_a_line(error)})
    return good, errors


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
    parts = restored_parts(
        load_yaml(payload["experiment"]),
        payload["seed"],
        Path(payload["checkpoint"]),
        payload.get("search_path") or [],
        payload.get("trusted", False),
    )
    if parts.datamodule is None:
        raise ValueError(f"{type(parts.module).__name__} has no datamodule, which is needed to read inputs")
    return parts.module.eval(), parts.datamodule


def restored_parts(
    sections: dict[str, Any], seed: int, checkpoint: Path, search_path: list[str], trusted: bool
) -> Parts:
    """A trained module with a checkpoint's weights, and its datamodule; see Trained for the arguments.

    Raises:
        ValueError: in one line: a class is not allowed in a folder from elsewhere, or the weights do not fit.
    """
    use(search_path)
    parts = build(sections if trusted else restricted(sections), seed, trainer=False)
    try:
        restore_weights(parts, checkpoint)
    except RuntimeError as error:  # how load_state_dict says that they do not fit
        what = f"{checkpoint} does not fit {type(parts.module).__name__}"
        raise ValueError(f"{what}: {' '.join(str(error).split())[:300]}") from error
    return parts
