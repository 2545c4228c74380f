"""The pictures that a module may request by name (`pictures(dataloader)`)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from studies.common.suggestions import did_you_mean
from studies.plots import canvas, classification, learning_curves, model, words

PICTURES = {
    function.__name__: function
    for function in (
        classification.confusion_matrix,
        classification.worst_mistakes,
        words.decoded_words,
        words.exact_match_by_length,
        learning_curves.learning_curves,
        model.decision_boundary,
        model.predicted_against_true,
        model.activation_functions,
        model.gradient_by_distance,
        model.filters,
        model.feature_maps,
        canvas.masked_canvases,
        canvas.boxed_canvases,
    )
}


def draw(name: str, **arguments: Any) -> Figure:
    """Draws the picture of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in PICTURES:
        raise ValueError(f"unknown picture {name}{did_you_mean(name, PICTURES)}")
    return PICTURES[name](**arguments)
