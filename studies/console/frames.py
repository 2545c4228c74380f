"""The live display of a command whose caller draws it: frames as JSON lines on stderr.

Each line that begins with ASCII's record separator (RFC 7464) is a JSON list of [text, style] pairs, the whole display
at that moment; other lines are permanent ones. A notebook's cell draws them; see studies.python_api.notebook.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, TextIO

FRAMES = "HARNESS_FRAMES"  # variable: the caller draws frames
SEPARATOR = "\x1e"
WIDTH, HEIGHT = 110, 30  # characters
SECONDS = 0.5  # between frames

Drawing = Callable[[int, int], list[tuple[str, str]]]


class FrameWriter:
    """Writes frames while it is started. It has the part of rich.live.Live's interface that Display uses."""

    def __init__(self, stream: TextIO, drawing: Drawing) -> None:
        self.console = self
        self._stream = stream
        self._drawing = drawing
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="frames", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._write([])

    def print(self, line: str, **_: Any) -> None:
        """Writes a permanent line."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def _draw(self) -> None:
        while not self._ended.wait(SECONDS):
            self._write(self._drawing(WIDTH, HEIGHT))

    def _write(self, lines: list[tuple[str, str]]) -> None:
        self.print(SEPARATOR + json.dumps(lines))
