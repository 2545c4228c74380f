"""The picture of a learning rate range test: its axes show what matters, whatever the losses are."""

import math

from matplotlib.figure import Figure

from studies.plots.figure import pixels_of
from studies.plots.tuning import learning_rate_range

RATES = [10 ** (-6 + step / 10) for step in range(61)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.texts]


def test_a_diverging_end_does_not_hide_the_fall() -> None:
    losses = [2 - step / 60 for step in range(50)] + [10.0**step for step in range(11)]
    figure = learning_rate_range(RATES, losses, 0.0023, "Learning rates of toy")
    low, high = figure.axes[0].get_ylim()
    assert low < 1.2 and 2 < high < 5
    assert {"suggestion 0.0023", "Learning rates of toy"} <= set(texts(figure))
    assert pixels_of(figure).std() > 0


def test_without_a_suggestion_or_finite_losses() -> None:
    assert texts(learning_rate_range(RATES, [1.0] * 61, None, "Flat")) == ["Flat"]
    pixels_of(learning_rate_range(RATES, [math.nan, math.inf] * 30 + [math.nan], None, "Broken"))
