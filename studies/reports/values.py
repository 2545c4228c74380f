"""Values as a report shows them: numbers with few digits, short names, and texts of which parts may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studies.common.text import visible
from studies.config.search_space import Choice, Range
from studies.plots.ranges import LARGEST

MISSING, MINUS = "-", "\N{MINUS SIGN}"
LONGEST = 200  # characters of a value or a name


def text_of(value: Any, most: int = LONGEST) -> str:
    """A value as text without control characters, in one line; lists as [16,32]."""
    if isinstance(value, list | tuple):
        value = "[" + ",".join(map(str, value)) + "]"
    text = " ".join(visible(str(value)).split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def number(value: Any, digits: int = 6) -> float | None:
    """A number with few digits, for the page's data; None if it cannot be drawn."""
    if not is_number(value):
        return None
    return float(f"{value:.{digits}g}")


def is_number(value: Any) -> bool:
    """Whether a value can be drawn on a number axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def number_text(value: float | None, digits: int = 4) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}g}".replace("-", MINUS)


def decimals(values: Sequence[float]) -> int:
    """Decimals for a column of numbers, best first, so that it is aligned.

    Four significant digits of the largest, three of the first, or as many as tell the different ones apart.
    """
    shown = [abs(value) for value in values if is_number(value) and value]
    if not shown:
        return 3
    first = max(3 - math.floor(math.log10(max(shown))), 2 - math.floor(math.log10(shown[0])))
    first = min(8, max(0, first))
    for places in range(first, first + 3):
        if len({f"{value:.{places}f}" for value in shown}) == len(set(shown)):
            return places
    return first + 2


def duration(seconds: float | None) -> str:
    """Seconds as 0.42 s, 31.5 s, 5m07s or 2h03m."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def count(number: int, word: str) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


@dataclass(frozen=True)
class Parameter:
    """A searched parameter and its value in each trial.

    Attributes:
        name: dotted name.
        short: the last part of it, or all of it if ambiguous.
        values: one per trial; None where a trial has none.
        entry: what the search space says of it; None if the space is a function.
        log: whether its axis is logarithmic.
    """

    name: str
    short: str
    values: list[Any]
    entry: Range | Choice | None
    log: bool

    @property
    def is_category(self) -> bool:
        return not all(is_number(value) for value in self.values if value is not None)

    def to_json(self) -> dict[str, Any]:
        """Axis and values for the page's charts; values of a category are indices of its labels."""
        if self.is_category:
            texts = [None if value is None else text_of(value, 60) for value in self.values]
            known = [text_of(value, 60) for value in self.entry.values] if isinstance(self.entry, Choice) else []
            labels = list(dict.fromkeys([*known, *sorted({text for text in texts if text is not None})]))
            place = {label: index for index, label in enumerate(labels)}
            values = [None if text is None else place[text] for text in texts]
            return {"short": text_of(self.short), "labels": labels, "values": values}
        numbers = [value for value in self.values if value is not None]
        marks = sorted(self.entry.values) if isinstance(self.entry, Choice) else None
        ends = [*numbers, *(self.entry.ends if isinstance(self.entry, Range) else marks or [])]
        low, high = min(ends), max(ends)
        return {
            "short": text_of(self.short),
            "low": low,
            "high": high if high > low else low + (abs(low) or 1.0),
            "log": self.log and low > 0,
            "marks": marks,
            "values": [number(value) for value in self.values],
        }


def parameters_of(rows: Sequence[Mapping[str, Any]], space: Mapping[str, Range | Choice] | None) -> list[Parameter]:
    """The searched parameters, in the order of the space.

    Args:
        rows: each trial's parameters.
        space: None if it is a function: then axes of positive numbers that span three decades are logarithmic.
    """
    names = list(dict.fromkeys([*(space or {}), *(name for row in rows for name in row)]))
    last = [name.rpartition(".")[2] for name in names]
    found = []
    for name, short in zip(names, last, strict=True):
        values = [row.get(name) for row in rows]
        if any(value is not None for value in values):
            entry = space.get(name) if space else None
            short = short if last.count(short) == 1 else name
            found.append(Parameter(name, short, values, entry, is_logarithmic(entry, values)))
    return found


def is_logarithmic(entry: Range | Choice | None, values: Sequence[Any] = ()) -> bool:
    """Whether a parameter reads best on a logarithmic axis: as its range says, or numbers that span decades."""
    if isinstance(entry, Range):
        return entry.log
    numbers: Sequence[Any] = entry.values if entry is not None else [value for value in values if value is not None]
    if not numbers or not all(is_number(value) for value in numbers) or min(numbers) <= 0:
        return False
    return bool(max(numbers) >= (8 if entry is not None else 1000) * min(numbers))
