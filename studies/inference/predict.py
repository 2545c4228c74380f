"""`harness predict`: finds the model, reads inputs from the command line or stdin, and predicts in a warm process."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from studies.inference.opened_model import opened

IMAGES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}
LARGEST = 100_000_000  # bytes from stdin


def ask(model: str, inputs: list[str], trust: bool = False) -> dict[str, Any]:
    """Returns `model`, `run_id`, `checkpoint` and `predictions`; see predict_worker.predict.

    Raises:
        ValueError: in one line: unknown model, no inputs, or an input cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="harness-predict-") as scratch:
        items = inputs or _from_stdin(Path(scratch))
        if not items:
            raise ValueError("no INPUT was given: name files or words, or pass them on stdin, one per line")
        with opened(model, "predict", trust) as found:
            phase = "importing torch, then running the model"
            answer = found.call("studies.inference.predict_worker:predict", phase, items=items)
            return {"model": model, **found.described, **answer}


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
