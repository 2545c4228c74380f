"""Learning rates of extended trials: schedules that ended with the training end with the longer training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import events_of
from torch.optim import lr_scheduler
from toy import Toy

from studies.protocol.events import Event, Failed, Finished, Metrics, Notice

SHORT, LONG, BATCHES = 2, 4, 4  # epochs, epochs, and batches per epoch


class Scheduled(Toy):
    """Logs its rate at each step.

    Args:
        schedule: its kind.
        length: the schedule's own; without it, that of the training.
    """

    def __init__(self, schedule: str = "cosine", length: int | None = None, num_features: int = 1) -> None:
        super().__init__(num_features=num_features)
        self.schedule, self.length = schedule, length

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = self.length or int(self.trainer.estimated_stepping_batches)
        epochs = self.length or self.trainer.max_epochs
        if self.schedule == "cosine":
            return [optimizer], [lr_scheduler.CosineAnnealingLR(optimizer, epochs)]
        made = {
            "cosine by steps": lambda: lr_scheduler.CosineAnnealingLR(optimizer, steps),
            "one cycle": lambda: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps),
            "polynomial": lambda: lr_scheduler.PolynomialLR(optimizer, steps),
            "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps),
            "warm-up": lambda: lr_scheduler.SequentialLR(
                optimizer,
                [lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(optimizer, steps - 3)],
                [3],
            ),
            "steps": lambda: lr_scheduler.StepLR(optimizer, 5),
        }
        return [optimizer], [{"scheduler": made[self.schedule](), "interval": "step"}]


def train(folder: Path, epochs: int, schedule: str, length: int | None = None, **fields: Any) -> list[Event]:
    return events_of(
        folder,
        {
            "model": {"class_path": "test_schedules.Scheduled", "init_args": {"schedule": schedule, "length": length}},
            "data": {"class_path": "toy.ToyData"},
            "trainer": {"max_epochs": epochs, "log_every_n_steps": 1},
        },
        **fields,
    )


def extend(folder: Path, schedule: str, length: int | None = None) -> list[Event]:
    """Notices of the extension."""
    before = train(folder, SHORT, schedule, length)
    assert isinstance(before[-1], Finished), before[-1]
    resume = str(folder / "checkpoints" / "last.ckpt")
    return train(folder, LONG, schedule, length, resume=resume, extends=True)[len(before) :]


def rates(events: list[Event]) -> list[float]:
    return [event.values["rate"] for event in events if isinstance(event, Metrics) and "rate" in event.values]


@pytest.mark.parametrize(
    "schedule", ["cosine", "cosine by steps", "one cycle", "polynomial", "linear", "warm-up", "steps"]
)
def test_from_the_first_step_on_it_has_the_rates_of_the_longer_training(tmp_path: Path, schedule: str) -> None:
    extended = extend(tmp_path / "extended", schedule)
    assert isinstance(extended[-1], Finished) and not [event for event in extended if isinstance(event, Notice)]
    whole = rates(train(tmp_path / "whole", LONG, schedule))
    assert rates(extended) == pytest.approx(whole[SHORT * BATCHES :], rel=1e-6)


def test_a_fixed_length_is_reported_before_training(tmp_path: Path) -> None:
    extended = extend(tmp_path, "cosine", length=2)
    (notice,) = [event for event in extended if isinstance(event, Notice)]
    assert notice.text == (
        "CosineAnnealingLR(T_max=2) ends at the length that the module sets: the training continues to 4 epochs"
    )
    assert isinstance(extended[-1], Finished)


def test_a_sufficient_length_is_not_reported(tmp_path: Path) -> None:
    assert not [event for event in extend(tmp_path, "one cycle", length=16) if isinstance(event, Notice)]


def test_a_cycle_that_is_too_short_is_rejected_before_training(tmp_path: Path) -> None:
    extended = extend(tmp_path, "one cycle", length=SHORT * BATCHES)
    ending = extended[-1]
    assert isinstance(ending, Failed) and not rates(extended)
    assert "OneCycleLR(total_steps=8) of the module cannot continue after its 8 steps" in ending.error
