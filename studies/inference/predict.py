"""`harness predict`: finds the model, reads inputs from the command line or stdin, and predicts in a warm process."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from studies.common.state_folder import StateFolder
from studies.config.yaml_io import dump_yaml
from studies.console.progress import Display
from studies.inference.trained_model import find

IMAGES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}
LARGEST = 100_000_000  # bytes from stdin


def ask(model: str, inputs: list[str], trust: bool = False) -> dict[str, Any]:
    """Returns `model`, `run_id`, `checkpoint` and `predictions`; see predict_worker.predict.

    Raises:
        ValueError: in one line: unknown model, no inputs, or an input cannot be read.
    """
    from studies.executors.local import LocalExecutor

    with tempfile.TemporaryDirectory(prefix="harness-predict-") as scratch:
        items = inputs or _from_stdin(Path(scratch))
        if not items:
            raise ValueError("no INPUT was given: name files or words, or pass them on stdin, one per line")
        executor = LocalExecutor()
        executor.warm()
        try:
            trained = find(model, StateFolder.find(), Path(scratch), trust)
            with Display(title=f"predict {model}", metric=None, direction="maximize", total=1) as display:
                display.phase("importing torch, then running the model")
                payload = {
                    "experiment": dump_yaml(trained.experiment),
                    "seed": trained.seed,
                    "checkpoint": str(trained.checkpoint),
                    "search_path": trained.search_path,
                    "trusted": trained.trusted,
                    "items": items,
                }
                answer = executor.call("studies.inference.predict_worker:predict", payload, display.refresh)
        finally:
            executor.close()
    if "error" in answer:
        raise ValueError(answer["error"])
    return {"model": model, "run_id": trained.run_id, "checkpoint": str(trained.checkpoint), **answer}


def _from_stdin(scratch: Path) -> list[str]:
    """Lines that are files or words; or the bytes of one file, an image or a table."""
    if sys.stdin is None or sys.stdin.isatty():
        return []
    content = sys.stdin.buffer.read(LARGEST)
    suffix = next((suffix for start, suffix in IMAGES.items() if content.startswith(start)), None)
    if suffix is None:
        try:
            lines = [line.strip() for line in content.decode().splitlines()]
        except UnicodeDecodeError:
            raise ValueError("stdin must be text, a PNG or a JPEG") from None
        if not lines or "," not in lines[0]:
            return [line for line in lines if line]
        suffix = ".csv"
    path = scratch / f"stdin{suffix}"
    path.write_bytes(content)
    return [str(path)]
