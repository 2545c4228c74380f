"""Dropout whose masks are drawn several numbers at a time."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

LEVELS = 2**16  # the share of units set to 0 is rounded to a multiple of 1 / LEVELS


class Dropout(nn.Dropout):
    """nn.Dropout (Srivastava et al. 2014, JMLR 15), at least twice as fast on a CPU.

    There nn.Dropout draws one Bernoulli variable after the other, 7 ns each, as long as the matrix product before it
    takes for 400 inputs. Here one draw of 64 bits decides over four units: each is kept where its 16 bits, as a number,
    are below keep * 2^16. On other devices, and where `inplace` is asked for, it is nn.Dropout itself.

    Args:
        p: share of units set to 0 in training, at least 0 and at most 1, rounded to 1/65536.
    """

    # Room for what is drawn, and the same in 16 bits of the mask's shape: to ask for it anew takes as long as to draw.
    _drawn: tuple[Tensor, Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0 or self.inplace or inputs.device.type != "cpu":
            return super().forward(inputs)
        return inputs * self.mask(inputs.shape, inputs.dtype)

    def mask(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, generator: torch.Generator | None = None
    ) -> Tensor:
        """What inputs of a shape are multiplied by, on the CPU: 0 or 1 / keep, so that their expectation stays.

        Args:
            generator: to draw from; None is PyTorch's global one.
        """
        mask = torch.empty(shape, dtype=dtype)
        kept = LEVELS - round(self.p * LEVELS)
        if not kept:
            return mask.zero_()
        room = self._drawn
        if room is None or room[1].shape != shape:
            count = prod(shape)
            draws = torch.empty((count + 3) // 4, dtype=torch.int64)
            room = draws, draws.view(torch.int16)[:count].view(mask.shape)
            if not draws.is_inference():  # that may not be written to where gradients are computed
                self._drawn = room
        draws, bits = room
        draws.random_(-(2**63), None, generator=generator)  # so the bits are uniform from -LEVELS / 2
        # Written as numbers at once: to compare and then to convert takes eight times as long.
        return torch.le(bits, kept - LEVELS // 2 - 1, out=mask).mul_(LEVELS / kept)
