"""A module that draws pictures at each validation, and whose `pictures` changes all that it can reach."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from toy import Toy


class Unpictured(Toy):
    def __init__(self, learning_rate: float = 0.1, num_features: int = 1) -> None:
        super().__init__(learning_rate=learning_rate, num_features=num_features)
        self.norm = nn.BatchNorm1d(num_features)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.linear(self.norm(x)) * (1 + 1e-3 * (self.seen % 7))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        noise = random.random() + np.random.random() + torch.rand(()).item()
        loss = nn.functional.mse_loss(self(self.dropout(batch[0])), batch[1]) * (1 + 1e-3 * noise)
        self.log("train/loss", loss)
        return loss


class Pictured(Unpictured):
    pictures_at_validation = True

    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        self.train()
        for inputs, targets in dataloader:
            nn.functional.mse_loss(self(self.dropout(inputs)), targets).backward()  # needs gradients, moves the norm
            inputs.add_(100)
        random.random(), np.random.random(), torch.rand(9), torch.manual_seed(1)
        with torch.no_grad():
            self.linear.weight.fill_(torch.nan)
        figure = Figure(figsize=(2, 1))
        figure.add_axes((0.1, 0.1, 0.8, 0.8)).plot([0, 1], [0, self.current_epoch])
        return {"a/line": figure, "learning_curves": {"series": {"val/x": ([0, 1], [0.5, 0.25])}}}


class Failing(Unpictured):
    pictures_at_validation = True

    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        raise RuntimeError("no picture")
