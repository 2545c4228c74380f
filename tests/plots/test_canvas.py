import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from studies.plots import canvas as canvas_plots

NOISE = np.random.default_rng(0)


def everything(figure: Figure) -> str:
    figure.canvas.draw()  # drawing must not fail
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_text())  # type: ignore[attr-defined]


def test_masks_are_compared_where_there_is_or_should_be_something() -> None:
    truth = np.zeros((2, 8, 8), int)
    truth[0, :2] = 3
    said = truth.copy()
    said[0, 0] = 1  # 8 of 16 wrong
    said[1, 0, :4] = 2  # and 4 where there is nothing
    figure = canvas_plots.masked_canvases(NOISE.random((2, 8, 8)), truth, said, ["a", "b", "c"])
    assert "Segmented: 40.0% correct" in everything(figure) and "■ c" in everything(figure)
    mosaic = np.asarray(figure.axes[0].images[0].get_array())
    assert (mosaic[13, 1] == mosaic[25, 1]).all(), "the same class has the same colour, true or predicted"
    assert (mosaic[12, 1] != mosaic[24, 1]).any()


@pytest.mark.parametrize("count", [1, 5, 8])
def test_boxes_of_any_number_are_counted_and_named(count: int) -> None:
    truth = [[("7", (1.0, 1.0, 9.0, 12.0))] for _ in range(count)]
    said = [[("7", (1.0, 2.0, 9.0, 12.0)), ("4", (-5.0, 3.0, 40.0, 9.0))]] + [[] for _ in range(count - 1)]
    text = everything(canvas_plots.boxed_canvases(NOISE.random((count, 20, 20)), truth, said))
    assert f"Detected: 2 boxes predicted (thin, orange), {count} true" in text
    assert text.count("7") == count + 1 and "4" in text


def test_images_without_contrast_or_numbers_can_be_drawn() -> None:
    for images in (np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan)):
        everything(canvas_plots.boxed_canvases(images, [[]], [[]]))
        everything(canvas_plots.masked_canvases(images, np.zeros((1, 8, 8), int), np.zeros((1, 8, 8), int), ["a"]))
