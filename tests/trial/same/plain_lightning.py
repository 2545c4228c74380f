"""Fits each given config by LightningCLI, and writes weights and logged values to a file next to it.

python plain_lightning.py CONFIG.yaml ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers.logger import Logger


class Recorder(Logger):
    name, version = "recorder", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, int | None, float]] = []

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows += [(name, step, float(value)) for name, value in metrics.items()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for config in sys.argv[1:]:
        recorder = {"class_path": "plain_lightning.Recorder"}
        cli = LightningCLI(
            LightningModule,
            subclass_mode_model=True,
            save_config_callback=None,
            trainer_defaults={"logger": recorder, "enable_progress_bar": False, "enable_checkpointing": False},
            args=["fit", "--config", config],
        )
        torch.save(
            {"weights": cli.model.state_dict(), "rows": cli.trainer.logger.rows}, Path(config).with_suffix(".pt")
        )
