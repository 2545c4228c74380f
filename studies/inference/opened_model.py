"""Finds a trained model and asks it in a warm trial process: what `harness predict` and `harness export` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.common.state_folder import StateFolder
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.inference.trained_model import Trained, find


@dataclass
class OpenedModel:
    """A trained model, and a process to ask it in."""

    trained: Trained
    state_folder: StateFolder
    executor: Any
    title: str

    def call(self, function: str, phase: str, **more: Any) -> dict[str, Any]:
        """Calls a function with the model's payload and `more` where torch is.

        Raises:
            ValueError: in one line: it answers that the model cannot be restored or asked.
            RuntimeError: its process died.
        """
        payload = {**payload_of(self.trained), **more}
        with Display(title=self.title, metric=None, direction="maximize", total=1) as display:
            display.phase(phase)
            answer: dict[str, Any] = self.executor.call(function, payload, display.refresh)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    @property
    def described(self) -> dict[str, Any]:
        return {"run_id": self.trained.run_id, "checkpoint": str(self.trained.checkpoint)}


def payload_of(trained: Trained) -> dict[str, Any]:
    """What a process needs to restore a model; see predict_worker.restore."""
    return {
        "experiment": dump_yaml(trained.experiment),
        "seed": trained.seed,
        "checkpoint": str(trained.checkpoint),
        "search_path": trained.search_path,
        "trusted": trained.trusted,
    }


@contextlib.contextmanager
def opened(model: str, title: str, trust: bool) -> Iterator[OpenedModel]:
    """A model as `find` finds it; the process starts to import torch meanwhile.

    Raises:
        ValueError: in one line: there is no such model.
    """
    from studies.executors.local import LocalExecutor

    with tempfile.TemporaryDirectory(prefix="harness-model-") as scratch:
        executor = LocalExecutor()
        executor.warm()
        try:
            state_folder = StateFolder.find()
            trained = find(model, state_folder, Path(scratch), trust)
            yield OpenedModel(trained, state_folder, executor, f"{title} {model}")
        finally:
            executor.close()
