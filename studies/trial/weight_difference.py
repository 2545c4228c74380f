"""By how much the weights of two checkpoints differ."""

from __future__ import annotations

from typing import Any

import torch


def largest_difference(payload: dict[str, Any]) -> dict[str, Any]:
    """The parameter or buffer in which two checkpoints differ most.

    Args:
        payload: `then` and `now`: paths of checkpoints that can be read with weights_only.

    Returns:
        `parameter`; `by`: the largest absolute difference of an element; `differing`: how many parameters differ, of
        `total`. Empty if one of the files is missing or cannot be read that way.
    """
    try:
        then, now = (torch.load(payload[name], map_location="cpu", weights_only=True) for name in ("then", "now"))
        before, after = then["state_dict"], now["state_dict"]
    except Exception:  # a checkpoint with the user's own objects, or none
        return {}
    found = {name: _by(before[name], after[name]) for name in before if name in after}
    if not found:
        return {}
    parameter = max(found, key=lambda name: found[name])
    differing = sum(value > 0 for value in found.values())
    return {"parameter": parameter, "by": found[parameter], "differing": differing, "total": len(found)}


def _by(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape:
        return float("inf")
    if torch.equal(one, other) or not one.numel():
        return 0.0
    return float((one.double() - other.double()).abs().max())
