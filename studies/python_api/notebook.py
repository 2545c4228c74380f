"""Draws a command's live display in a notebook's cell."""

from __future__ import annotations

import base64
import html
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from studies.common.regular_files import open_regular
from studies.console.frames import SEPARATOR

KEPT = 12  # permanent lines above the live table
LARGEST = 2_000_000  # bytes of a picture that is shown
STYLES = {"bold": "font-weight:600", "dim": "opacity:.6", "green": "color:#2a8a3e", "red": "color:#c0392b"}
STYLES |= {"cyan": "color:#0b7285", "yellow": "color:#9a6700"}


def is_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookDisplay:
    """One output of a cell: the last permanent lines and the live table."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._lines: list[str] = []
        self._frame: list[list[str]] = []
        self._handle: Any = display(HTML(""), display_id=True)

    def line(self, line: str) -> None:
        """Shows a line of the command's stderr: a frame or a permanent line."""
        if line.startswith(SEPARATOR):
            self._frame = json.loads(line[1:])
        else:
            self._lines = [*self._lines, line][-KEPT:]
        self._handle.update(self._html(self._drawn()))

    def close(self) -> None:
        self._frame = []
        self._handle.update(self._html(self._drawn()))

    def _drawn(self) -> str:
        spans = [f'<span style="{STYLES.get(style, "")}">{html.escape(text)}</span>' for text, style in self._frame]
        text = "\n".join([*map(html.escape, self._lines), *spans])
        return f'<pre style="line-height:1.25;overflow-x:auto">{text}</pre>' if text else ""


def pictures_as_html(paths: Iterable[Path]) -> str:
    """PNG files as HTML that needs no files."""
    images = []
    for path in paths:
        try:
            with open_regular(path) as file:
                content = file.read(LARGEST)
        except OSError:  # deleted meanwhile
            continue
        data = base64.b64encode(content).decode()
        images.append(f'<img style="max-width:100%" alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">')
    return "<br>".join(images)
