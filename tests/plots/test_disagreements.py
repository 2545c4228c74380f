from __future__ import annotations

import numpy as np
import pytest

from studies.plots.disagreements import disagreements
from studies.plots.figure import image_of

NAMES = ("0a1b2c3d", "4e5f6071")


@pytest.mark.parametrize("shape", [(28, 28), (64, 64, 3)])
def test_images_with_both_answers(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random((10, *shape))
    figure = disagreements(["3"] * 10, ["3"] * 10, ["8"] * 10, NAMES, "10 of 99", images)
    texts = [text.get_text() for text in figure.texts]
    assert "10 of 99" in texts and texts.count("true 3") == 10
    assert texts.count("0a1b2c3d 3") == 10 and texts.count("4e5f6071 8") == 10
    assert image_of(figure).width > 500


def test_rows_where_there_are_no_images() -> None:
    figure = disagreements(["stop", None], ["stop", "a"], ["pots", "b"], NAMES, "2 of 9", None, ["pots", "x" * 99])
    texts = [text.get_text() for text in figure.texts]
    assert {"stop", "pots", "a", "b", *NAMES} <= set(texts) and not any("x" * 30 in text for text in texts)
    colours = {text.get_text(): text.get_color() for text in figure.texts}
    assert len({colours["a"], colours["b"]}) == 1, "neither is known to be right"
    assert image_of(figure).height > 50


def test_no_sample() -> None:
    assert "there is no such sample" in [text.get_text() for text in disagreements([], [], [], NAMES, "0 of 9").texts]
