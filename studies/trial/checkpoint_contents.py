"""Which parts of a checkpoint can be read with weights_only."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from typing import Any

import torch

STATE = "harness"  # checkpoint key: state needed to resume that Lightning does not save
LEFT_OUT = "harness_left_out"  # checkpoint key: names of the entries that were left out
FOR_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks", STATE)  # not needed for inference
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
    """Whether pickle itself raised it, for an object it cannot serialize, rather than a hook or an object's method."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename == torch.serialization.__file__


def is_plain_data(value: Any) -> bool:
    """Whether PyTorch can load a value with weights_only=True: tensors, numbers, text, and containers of them."""
    kind = type(value)
    if value is None or kind in _PLAIN:
        return True
    if kind in (dict, OrderedDict):
        return all(is_plain_data(key) and is_plain_data(item) for key, item in value.items())
    return kind in (list, tuple, set) and all(map(is_plain_data, value))


def readable_part(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that can be loaded with weights_only=True and is needed for inference."""
    part = {key: value for key, value in checkpoint.items() if key not in FOR_TRAINING and is_plain_data(value)}
    return {**part, LEFT_OUT: [str(key) for key in checkpoint if key not in part]}
