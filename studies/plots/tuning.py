"""The picture of the learning rate finder: plain lists in, a matplotlib Figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from studies.plots.colours import BLUE, GREY, ORANGE
from studies.plots.figure import log_ticks, new_figure, tidy, title, write


def learning_rate_range(
    rates: Sequence[float], losses: Sequence[float], suggestion: float | None, heading: str
) -> Figure:
    """The running average of the training loss against a growing learning rate.

    Args:
        rates: increasing, above 0.
        suggestion: marked by a line, or None.
    """
    figure, axes = new_figure(6.2, 3.4, left=0.75, bottom=0.6, right=0.3, top=0.7)
    points = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
    title(axes, heading)
    axes.plot([rate for rate, _ in points], [loss for _, loss in points], color=BLUE, linewidth=1.8)
    axes.set_xscale("log")
    ticks = log_ticks(rates[0], rates[-1])
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    tidy(axes)
    axes.set_xlabel("learning rate", color=GREY, size=10)
    axes.set_ylabel("training loss", color=GREY, size=10)
    values = sorted(loss for _, loss in points)
    if values:
        low, middle = values[0], values[len(values) // 2]
        top = min(values[-1], middle + 2 * (middle - low) + 0.05 * abs(middle))  # a diverging end is cut off
        margin = 0.05 * (top - low) or 0.05
        axes.set_ylim(low - margin, top + margin)
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linewidth=1.4)
        right = suggestion > math.sqrt(rates[0] * rates[-1])
        across = axes.get_xaxis_transform()
        text = f"  suggestion {suggestion:g}  "
        write(axes, suggestion, 0.95, text, color=ORANGE, size=10, ha="right" if right else "left", transform=across)
    return figure
