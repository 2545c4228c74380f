"""Predicts the same samples with two trained models and shows where they disagree. Runs in a warm trial process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor

from studies.config.yaml_io import load_yaml
from studies.inference.predict_worker import in_a_line, restored_parts
from studies.plots import figure as figures
from studies.plots.disagreements import disagreements
from studies.trial.data_check import loaders_of_test
from studies.trial.instantiate import Parts
from studies.trial.samples import flat

SAMPLES = 10_000  # that are predicted at most, rounded up to whole batches
EXAMPLES = 48  # samples that are shown at most


def disagree(payload: dict[str, Any]) -> dict[str, Any]:
    """Predicts a split of the first model's data with both models.

    Args:
        payload: a model as in predict_worker.predict, `other` (likewise), `split` (val or test), `names` of the two
            models, and `picture` (path of a PNG).

    Returns:
        `split`, `samples`, `disagreements` (their number), `right` (how many samples `both`, `a`, `b` alone and
        `neither` have right; None if that is not known), `classes` (of each true class: `name`, number of `samples`,
        shares `a` and `b` that are right), `examples` (`index`, `input`, `truth`, `a`, `b`, those first about which the
        models are surest or furthest apart) and `picture` (path, or None). Or `error`.
    """
    try:
        one, other = (_restored(each) for each in (payload, payload["other"]))
        return _disagree(one, other.module, payload["split"], payload["names"], Path(payload["picture"]))
    except Exception as error:
        return {"error": in_a_line(error)}


def _restored(model: dict[str, Any]) -> Parts:
    sections = load_yaml(model["experiment"])
    places, trusted = model.get("search_path") or [], model.get("trusted", False)
    parts = restored_parts(sections, model["seed"], Path(model["checkpoint"]), places, trusted)
    parts.module.eval()
    return parts


def _disagree(parts: Parts, other: LightningModule, split: str, names: list[str], picture: Path) -> dict[str, Any]:
    one, data = parts.module, parts.datamodule
    rows: list[dict[str, Any]] = []
    images: dict[int, np.ndarray] = {}
    for inputs, targets in _batches(parts, split):
        said = [_answers(module, inputs, targets) for module in (one, other)]
        truth = _truth(said[0], targets, data)
        for place, (first, second) in enumerate(zip(*said, strict=True)):
            row = {
                "index": len(rows),
                "input": None,
                "truth": truth[place],
                "a": first["answer"],
                "b": second["answer"],
            }
            row["apart"] = _apart(first, second)
            if row["apart"] > 0:
                row["input"] = _text(inputs[place], data)
                if inputs.dim() == 4:
                    images[len(rows)] = _displayable(inputs[place])
            rows.append(row)
    apart = sorted((row for row in rows if row["apart"] > 0), key=lambda row: -row["apart"])
    examples = apart[:EXAMPLES]
    drawn = None
    if examples:
        heading = f"{len(apart)} of {len(rows)} {split} samples on which the models disagree"
        heading += f", {len(examples)} of them" if len(examples) < len(apart) else ""
        columns = {key: [_shown(row[key]) for row in examples] for key in ("a", "b", "input")}
        truths = [None if row["truth"] is None else _shown(row["truth"]) for row in examples]
        shown = [images[row["index"]] for row in examples] if images else None
        figure = disagreements(
            truths, columns["a"], columns["b"], (names[0], names[1]), heading, shown, columns["input"]
        )
        figures.save(figure, picture)
        drawn = str(picture)
    classes = _by_class(rows)
    known = [row for row in rows if isinstance(row["truth"], str)]
    for row in examples:
        del row["apart"]
    return {
        "split": split,
        "samples": len(rows),
        "disagreements": len(apart),
        "right": _right(known) if len(known) == len(rows) and rows else None,
        "classes": classes,
        "examples": examples,
        "picture": drawn,
    }


def _batches(parts: Parts, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (B, ...) and targets of a split, of about SAMPLES samples, on the CPU.

    Raises:
        ValueError: in one line: there is no such split, or batches are of another kind.
    """
    holder: Any = parts.module if parts.datamodule is None else parts.datamodule
    if isinstance(holder, LightningDataModule):
        holder.prepare_data()
    if split == "val":
        if isinstance(holder, LightningDataModule):
            holder.setup("fit")
        loaders = holder.val_dataloader()
    else:
        loaders = loaders_of_test(parts)
    seen = 0
    for loader in flat(loaders):
        for batch in loader:
            if not (isinstance(batch, tuple | list) and len(batch) > 1 and isinstance(batch[0], Tensor)):
                raise ValueError(f"{type(holder).__name__}'s batches must be (inputs, targets), and inputs one tensor")
            targets = batch[1] if len(batch) == 2 and isinstance(batch[1], Tensor) else torch.zeros(len(batch[0]), 0)
            yield batch[0].cpu(), targets.cpu()
            seen += len(batch[0])
            if seen >= SAMPLES:
                return
    if not seen:
        raise ValueError(f"{type(holder).__name__} has no {split} samples")


@torch.no_grad()
def _answers(module: LightningModule, inputs: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    """`answer` (text or a number) to each input, and `probability` or `mask` if there is one.

    By the module's own `answers`, as for `harness predict`; else of the outputs of `forward`.

    Raises:
        ValueError: in one line: outputs are neither scores of classes nor a number each.
    """
    if hasattr(module, "answers"):
        return list(module.answers(inputs))  # type: ignore[operator]
    outputs = module(inputs.to(module.device))
    if isinstance(outputs, Tensor):
        outputs = outputs.float().cpu()
        if outputs.dim() == 2 and outputs.shape[1] > 1 and not targets.is_floating_point():
            shares, taken = outputs.softmax(dim=1).max(dim=1)
            names = {str(number): None for number in range(outputs.shape[1])}
            pairs = zip(taken.tolist(), shares.tolist(), strict=True)
            return [{"answer": str(t), "probability": p, "probabilities": names} for t, p in pairs]
        if outputs[:1].numel() == 1 and targets.is_floating_point():
            return [{"answer": value} for value in outputs.reshape(-1).tolist()]
    raise ValueError(
        f"{type(module).__name__} has no method answers, and its outputs are neither scores of classes (B, C) nor "
        "a number each"
    )


def _truth(answers: list[dict[str, Any]], targets: Tensor, data: LightningDataModule | None) -> list[Any]:
    """What would have been right, in terms of the answers: text, a number or a mask; None where not known."""
    if targets.dim() == 1 and "probabilities" in answers[0] and not targets.is_floating_point():
        names = list(answers[0]["probabilities"])
        return [names[number] if 0 <= number < len(names) else None for number in targets.tolist()]
    if targets[:1].numel() == 1 and isinstance(answers[0]["answer"], float):
        return [float(value) for value in targets.reshape(-1).tolist()]
    vocabulary: Any = getattr(data, "vocabulary", None)
    if targets.dim() == 2 and targets.shape[1] and hasattr(vocabulary, "decode"):
        return [vocabulary.decode(ids) for ids in targets.tolist()]
    return [None] * len(answers)


def _apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How much two answers disagree; 0 if they agree."""
    if "mask" in one and "mask" in other:
        return float((np.asarray(one["mask"]) != np.asarray(other["mask"])).mean())
    first, second = one["answer"], other["answer"]
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second)
    return 0.0 if first == second else float(one.get("probability", 1.0)) + float(other.get("probability", 1.0))


def _right(rows: list[dict[str, Any]]) -> dict[str, int]:
    counts = {"both": 0, "a": 0, "b": 0, "neither": 0}
    for row in rows:
        one, other = row["a"] == row["truth"], row["b"] == row["truth"]
        counts["both" if one and other else "a" if one else "b" if other else "neither"] += 1
    return counts


def _by_class(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The share of each true class that each model has right; none if the answers are not classes."""
    by_truth: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_truth.setdefault(str(row["truth"]), []).append(row)
    if not all(isinstance(row["truth"], str) for row in rows) or not 2 <= len(by_truth) <= min(100, len(rows) // 2):
        return []
    shares = []
    for name in sorted(by_truth):
        of_class = by_truth[name]
        right = {model: sum(row[model] == name for row in of_class) / len(of_class) for model in ("a", "b")}
        shares.append({"name": name, "samples": len(of_class), **right})
    return shares


def _text(sample: Tensor, data: LightningDataModule | None) -> str | None:
    """An input as text, if it is short."""
    vocabulary: Any = getattr(data, "vocabulary", None)
    if sample.dim() == 1 and not sample.is_floating_point() and hasattr(vocabulary, "decode"):
        return str(vocabulary.decode(sample.tolist()))
    if sample.dim() <= 1:
        numbers = " ".join(f"{value:.3g}" for value in sample.reshape(-1)[:6].tolist())
        return numbers + (" ..." if sample.numel() > 6 else "")
    return None


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _displayable(image: Tensor) -> np.ndarray:
    """(C, H, W) of any range -> (H, W, 3) of 0 to 1; grey unless there are three channels."""
    image = image.float() if image.shape[0] == 3 else image.float().mean(dim=0, keepdim=True).expand(3, -1, -1)
    low, high = image.amin(), image.amax()
    pixels: np.ndarray = ((image - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 0).numpy()
    return pixels
