"""Fingerprints of a training: hashes of weights and of the order of samples at the end of each epoch.

They cost less than 1% of a training, by a rule instead of a clock, so that equal trainings have equal fingerprints:
of large models, evenly spaced blocks are hashed, the more the longer the epoch.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from studies.protocol.channel import Channel
from studies.protocol.events import Fingerprint
from studies.trial.checkpointing import ResumePoint
from studies.trial.random_states import dataloaders_of

# Bytes that are hashed at the end of an epoch: for each of its batches, at least, and at most. A batch takes at least
# 0.25 ms, 2,048 bytes take 0.002 ms.
EACH, LEAST, MOST = 2048, 2**16, 2**26
STREAM = 1000  # batches counted for an epoch of unknown length
BLOCK = 1024  # bytes


class Fingerprints(Callback):
    """Reports a Fingerprint at the end of each training epoch, also of one that is cut short.

    An epoch that is interrupted, and so will be continued, has none.
    """

    def __init__(self, channel: Channel, resume_point: ResumePoint) -> None:
        self._channel = channel
        self._resume_point = resume_point
        self._is_first = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or self._resume_point.is_leaving:
            return
        batches = trainer.num_training_batches
        names, weights, parts = hash_weights(pl_module, int(batches) if math.isfinite(batches) else STREAM)
        samples = self._resume_point.order.digest(dataloaders_of(trainer))
        told = "\n".join(names) if self._is_first else ""
        self._channel.emit(Fingerprint(trainer.global_step, trainer.current_epoch, weights, parts, samples, told))
        self._is_first = False


def hash_weights(module: torch.nn.Module, batches: int) -> tuple[list[str], str, str]:
    """Hashes a module's parameters and buffers.

    Args:
        batches: of the epoch; decides how much of a large model is hashed.

    Returns:
        Their names, the hash of all (16 hexadecimal digits), and 4 digits of each; "----" for one that has no bytes
        of its own, such as a lazy or sparse one.
    """
    named = dict(itertools.chain(module.named_parameters(), module.named_buffers()))
    tensors = [_own_bytes(tensor) for tensor in named.values()]
    total = sum(len(tensor) for tensor in tensors if tensor is not None)
    share = min(1.0, min(max(LEAST, EACH * batches), MOST) / max(1, total))
    whole, parts = hashlib.sha256(), []
    for tensor in tensors:
        if tensor is None:
            parts.append("----")
            continue
        digest = hashlib.sha256(_blocks(tensor, share).cpu().numpy().data).digest()
        whole.update(digest)
        parts.append(digest[:2].hex())
    return list(named), whole.hexdigest()[:16], "".join(parts)


def _own_bytes(tensor: Any) -> Tensor | None:
    """A tensor's bytes, uint8 (bytes,), on its device; of a distributed one those of this process."""
    if torch.nn.parameter.is_lazy(tensor) or tensor.device.type == "meta":
        return None
    try:
        tensor = tensor.detach()
        tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        return tensor.reshape(-1).view(torch.uint8)  # type: ignore[no-any-return]
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # sparse, quantized, or of a class that forbids it: no reason to end a training


def _blocks(flat: Tensor, share: float) -> Tensor:
    """Evenly spaced blocks that make up a share of the bytes, at least one; all of a small tensor."""
    blocks = len(flat) // BLOCK
    wanted = max(1, int(blocks * share))
    if share >= 1.0 or blocks <= wanted:
        return flat
    places = torch.linspace(0, blocks - 1, wanted, dtype=torch.float64).long().to(flat.device)
    return flat[: blocks * BLOCK].view(blocks, BLOCK)[places].reshape(-1)
