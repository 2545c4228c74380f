"""An area at the bottom of a terminal that is drawn again and again, and survives that the terminal is resized."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from rich.color import ColorSystem
from rich.console import Console, ConsoleDimensions, ConsoleOptions, ConsoleRenderable
from rich.live import Live
from rich.segment import ControlType, Segment
from rich.style import Style
from rich.text import Text

Line = tuple[str, str]  # a text and its style
# Erases all from the cursor's row on. The space is for tmux, which would keep a copy of a screen that is erased whole.
ERASE = "\r \x1b[J\r"
SAVE, RESTORE = "\x1b7", "\x1b8"  # the cursor
WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
BOTTOM = "\x1b[999;1H"
COLOURS = ColorSystem.STANDARD  # eight, as the terminal's user has chosen them


class LiveArea(Live):
    """rich's Live, for an area in the last rows of the terminal. The cursor stays where the next printed line goes.

    A terminal that gets narrower wraps its long lines anew, and may do so long before a program learns the new width:
    tmux waits a quarter of a second. So nobody knows how many rows an area has when it is to be erased. But its rows
    are below the cursor, which terminals keep where it was in the text, whatever they wrap.

    Args:
        console: the terminal.
        lines: returns what to draw now, given the width and height to stay within.
        options: of Live.
    """

    def __init__(self, console: Console, lines: Callable[[int, int], list[Line]], **options: Any) -> None:
        self._lines = lines
        self._area = _Area([])
        self._stopping = False
        super().__init__(console=console, get_renderable=self._draw, transient=True, **options)

    def _draw(self) -> _Area:
        with contextlib.suppress(OSError):  # the real size: COLUMNS and LINES may be set, and stay as they are
            self.console.size = ConsoleDimensions(*os.get_terminal_size(self.console.file.fileno()))
        width, height = self.console.size
        self._area = _Area([] if self._stopping else self._lines(max(1, width - 1), max(2, height - 1)))
        return self._area

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Erase(), *renderables, self._area]

    def stop(self) -> None:
        self._stopping = True  # the last area is empty
        super().stop()


class _Area:
    """Draws lines in the last rows, each at its place, cut where the terminal ends."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        above = len(self._lines) - 1
        if above < 0:
            return
        # Scrolls if there are fewer rows below the cursor than lines.
        codes = ["\n" * above, _up(above), SAVE, WRAP_OFF]
        for index, (text, style) in enumerate(self._lines):
            line = Text(text)
            line.truncate(console.size.width, overflow="ellipsis")
            codes += [BOTTOM, _up(above - index), Style.parse(style).render(line.plain, color_system=COLOURS)]
        yield _code("".join([*codes, WRAP_ON, RESTORE]))


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows else ""


def _code(text: str) -> Segment:
    """Something to print that moves the cursor; rich does not cut it to the terminal's width."""
    return Segment(text, None, [(ControlType.CARRIAGE_RETURN,)])


class _Erase:
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield _code(ERASE)
