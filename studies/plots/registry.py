"""The pictures that a module may ask for by name (`pictures(dataloader)`), from all files that draw some."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from studies.common.suggestions import nearest
from studies.plots import canvas as canvas_plots
from studies.plots import classification as plots
from studies.plots import model as task_plots

PICTURES = {
    function.__name__: function
    for function in (
        plots.confusion_matrix,
        plots.worst_mistakes,
        plots.decoded_words,
        plots.exact_match_by_length,
        plots.learning_curves,
        task_plots.decision_boundary,
        task_plots.predicted_against_true,
        task_plots.activation_functions,
        task_plots.gradient_by_distance,
        task_plots.filters,
        task_plots.feature_maps,
        canvas_plots.masked_canvases,
        canvas_plots.boxed_canvases,
    )
}


def draw(name: str, **arguments: Any) -> Figure:
    """Draws the picture of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in PICTURES:
        raise ValueError(f"unknown picture {name}{nearest(name, PICTURES)}")
    return PICTURES[name](**arguments)
