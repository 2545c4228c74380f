"""Which parts of a checkpoint can be read with weights_only."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from typing import Any

import torch

STATE = "harness"  # key of a checkpoint: what is needed to go on and Lightning does not keep
LEFT_OUT = "harness_left_out"  # key of such a part: names of what else there was
FOR_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks", STATE)  # not needed to ask a model
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.Tensor,
    torch.nn.Parameter,
    torch.Size,
    torch.dtype,
    torch.device,
)


def was_pickling(error: BaseException) -> bool:
    """Whether an error is pickle's own, of an object it cannot take, and not of a hook or of an object's method."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename == torch.serialization.__file__


def is_plain_data(value: Any) -> bool:
    """Whether PyTorch reads a value back with weights_only=True: tensors, numbers, text, and containers of them."""
    kind = type(value)
    if value is None or kind in _PLAIN:
        return True
    if kind in (dict, OrderedDict):
        return all(is_plain_data(key) and is_plain_data(item) for key, item in value.items())
    return kind in (list, tuple, set) and all(map(is_plain_data, value))


def readable_part(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What of a checkpoint can be read with weights_only=True, and is needed to ask a model."""
    part = {key: value for key, value in checkpoint.items() if key not in FOR_TRAINING and is_plain_data(value)}
    return {**part, LEFT_OUT: [str(key) for key in checkpoint if key not in part]}
