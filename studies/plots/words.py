"""Pictures of decoded words: plain lists in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from studies.plots.colours import BLUE, GREEN, GREY, INK, ORANGE, SKY
from studies.plots.figure import message, new_figure, new_panel, shorten, tidy, title, write
from studies.plots.panel import add_line

MAX_WORDS = 40


def decoded_words(source: Sequence[str], target: Sequence[str], predicted: Sequence[str]) -> Figure:
    """Source, target and predicted words: wrong ones first, with wrong letters in orange.

    Args:
        source: N input words.
        target: N correct outputs.
        predicted: N outputs of the decoder.
    """
    words = sorted(zip(source, target, predicted, strict=True), key=lambda word: word[1] == word[2])[:MAX_WORDS]
    if not words:
        return message("Decoded words", "there are no words")
    words = [(shorten(a, 22), *_shorten_together(b, c, 22)) for a, b, c in words]
    widths = [max(6, *(len(word[column]) for word in words)) for column in range(3)]
    starts = [0, 3, 3 + widths[0] + 3, 3 + widths[0] + widths[1] + 6]  # of the columns, in characters
    across = max(44, starts[3] + widths[2])
    size, lines = (across * 0.09, (len(words) + 1.2) * 0.23), (len(words) - 0.4, -1.6)
    figure, axes = new_panel(*size, left=0.3, bottom=0.15, right=0.3, top=0.6, across=(0, across), up=lines)
    wrong = sum(word[1] != word[2] for word in words)
    title(axes, f"Decoded words, a sample: {wrong} wrong, {len(words) - wrong} right")
    style: dict[str, Any] = {"size": 10, "family": "monospace"}
    for start, name in zip(starts[1:], ("source", "target", "predicted"), strict=True):
        write(axes, start, -1, name, color=GREY, **style)
    add_line(figure, [0, across], [-0.6, -0.6], transform=axes.transData, color=GREY, linewidth=0.6)
    for row, (read, meant, written) in enumerate(words):
        right = meant == written
        write(axes, 0, row, "✓" if right else "✗", color=GREEN if right else ORANGE, **style)
        write(axes, starts[1], row, read, color=GREY, **style)
        write(axes, starts[2], row, meant, **style)
        # Correct letters, with wrong and missing ones drawn over the gaps: the font is monospaced.
        fits = [index < len(meant) and meant[index] == letter for index, letter in enumerate(written)]
        kept = "".join(letter if fit else " " for letter, fit in zip(written, fits, strict=True))
        amiss = "".join(" " if fit else letter for letter, fit in zip(written, fits, strict=True))
        amiss += "_" * (len(meant) - len(written))
        for letters, colour in ((kept, INK), (amiss, ORANGE)):
            if letters.strip():
                write(axes, starts[3], row, letters, color=colour, **style)
    return figure


def exact_match_by_length(
    length: Sequence[int], correct: Sequence[int], total: Sequence[int], trained_length: int | None = None
) -> Figure:
    """The share of entirely correct words by length, with 95% Wilson score intervals (Wilson 1927).

    Args:
        length: word lengths, in characters.
        correct: number of correct words of that length.
        total: number of words of that length.
        trained_length: characters of the longest word in training; a line separates longer ones.
    """
    n, right = np.asarray(total, dtype=float), np.asarray(correct, dtype=float)
    seen = n > 0
    at, n, right = np.asarray(length)[seen], n[seen], right[seen]
    if len(at) == 0:
        return message("Exact match by word length", "there are no words")
    share, z = right / n, 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)

    figure, axes = new_figure(min(9.0, max(5.0, 0.55 * len(at))), 3.2, left=0.8, bottom=0.85, right=0.2, top=0.6)
    axes.vlines(at, low * 100, high * 100, color=SKY, linewidth=5, alpha=0.6)
    axes.plot(at, share * 100, "o", color=BLUE, markersize=6)
    if trained_length is not None and trained_length < at.max():
        axes.axvline(trained_length + 0.5, color=GREY, linewidth=0.8, linestyle="--")
        axes.text(
            trained_length + 0.4, 0.05, "seen in training", ha="right", color=GREY, transform=axes.get_xaxis_transform()
        )
    room = max(1.0, 100 - low.min() * 100)
    axes.set_ylim(100 - room * 1.12, 100 + room * 0.08)
    title(axes, f"Exact match by word length: {right.sum() / n.sum():.2%} of {int(n.sum())} words")
    every = math.ceil(len(at) / 16)
    names = [f"{a}\n{int(count)}" for a, count in zip(at, n, strict=True)]
    axes.set_xticks(at[::every], names[::every])
    tidy(axes)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("characters in the word, and number of such words", color=INK)
    axes.set_ylabel("written without error, %", color=INK)
    return figure


def _shorten_together(target: str, predicted: str, length: int) -> tuple[str, str]:
    """Truncates both words so that differing words still differ."""
    short = shorten(target, length), shorten(predicted, length)
    if target != predicted and short[0] == short[1]:
        start = next((i for i, (a, b) in enumerate(zip(target, predicted, strict=False)) if a != b), length)
        start = max(0, min(start, max(len(target), len(predicted))) - length // 2)
        return shorten("…" + target[start:], length), shorten("…" + predicted[start:], length)
    return short
