import math
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from studies.common import atomic_files as temporary
from studies.plots import classification as plots
from studies.plots import figure as figures
from studies.plots import learning_curves, words
from studies.plots.colours import ORANGE
from studies.plots.panel import Pixels

NAN, INF = math.nan, math.inf
NOISE = np.random.default_rng(0)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]


def everything(figure: Figure) -> str:
    figure.canvas.draw()  # drawing must not fail
    return "\n".join(texts(figure))


def test_confusion_matrix_has_truth_in_rows() -> None:
    figure = plots.confusion_matrix(np.array([[8, 2], [0, 5]]), ["cat", "dog"])
    said = everything(figure)
    assert "13 of 15 right (86.67%)" in said and "80.0%" in said and "100.0%" in said
    (two,) = [text for text in figure.texts if text.get_text() == "2"]
    assert two.get_position() == (1, 0)  # predicted dog, truly cat


def test_confusion_matrix_colours_mistakes_apart_from_right_answers() -> None:
    (image,) = plots.confusion_matrix(np.array([[90, 10], [0, 100]]), ["a", "b"]).findobj(Pixels)
    pixels = image.pixels.astype(int)  # type: ignore[attr-defined]
    assert pixels[0, 0, 2] > pixels[0, 0, 0]  # bluish
    assert pixels[0, 1, 0] > pixels[0, 1, 2]  # reddish
    assert (pixels[1, 0] == 255).all()  # no mistake is white


@pytest.mark.parametrize(
    ("counts", "labels"),
    [
        (np.array([[7]]), ["only"]),
        (np.zeros((3, 3), int), ["a", "b", "c"]),
        (np.diag([5, 0, 3]), ["$x", "a very long name of a class, too long to show", "z"]),
        (np.ones((150, 150), int), [f"class {i}" for i in range(150)]),
    ],
)
def test_confusion_matrices_at_the_edges(counts: np.ndarray, labels: list[str]) -> None:
    assert "Confusion matrix" in everything(plots.confusion_matrix(counts, labels))


def mistakes(images: np.ndarray) -> Figure:
    count = len(images)
    return plots.worst_mistakes(images, ["4"] * count, ["9"] * count, [0.0001] * count, [0.998] * count)


@pytest.mark.parametrize("shape", [(25, 28, 28), (7, 32, 32, 3), (3, 10, 40), (1, 8, 8), (2, 1, 1)])
def test_worst_mistakes_shows_all_with_both_probabilities(shape: tuple[int, ...]) -> None:
    said = everything(mistakes(NOISE.random(shape))).split("\n")
    assert said.count("true 4  <0.1%") == shape[0] and said.count("taken for 9  99.8%") == shape[0]


def test_worst_mistakes_puts_images_in_reading_order() -> None:
    images = np.stack([np.full((4, 4), value) for value in (0.1, 0.5, 0.9, 0.3)])
    (image,) = mistakes(images).findobj(Pixels)
    mosaic = image.pixels[..., 0]  # type: ignore[attr-defined]
    across = mosaic.shape[1] // 4
    assert [mosaic[0, index * across] for index in range(4)] == [25, 127, 229, 76]


def test_worst_mistakes_without_mistakes_and_with_broken_pixels() -> None:
    assert "no mistake was made" in everything(mistakes(np.zeros((0, 28, 28))))
    assert "The one mistake" in everything(mistakes(np.full((1, 5, 5), NAN)))


def test_decoded_words_marks_wrong_letters_and_puts_the_wrong_words_first() -> None:
    figure = words.decoded_words(["tac", "god", "yx"], ["cat", "dog", "xy"], ["cat", "dig", "x"])
    said = texts(figure)
    assert "2 wrong, 1 right" in everything(figure)
    assert said.index("✗") < said.index("✓") and said.count("✗") == 2
    orange = [text.get_text() for text in figure.texts if text.get_color() == ORANGE]
    assert orange == ["✗", " i ", "✗", " _"]  # in the letter's place; a letter that is missing


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.text("ab$_ ", max_size=40), st.text("ab$_ ", max_size=40)), max_size=4))
def test_decoded_words_never_makes_a_wrong_word_look_right(pairs: list[tuple[str, str]]) -> None:
    figure = words.decoded_words([a for a, _ in pairs], [a for a, _ in pairs], [b for _, b in pairs])
    said = texts(figure)
    assert said.count("✗") == sum(a != b for a, b in pairs)
    assert said.count("✓") == sum(a == b for a, b in pairs)


def test_exact_match_by_length_separates_lengths_that_training_lacked() -> None:
    assert "seen in training" in everything(words.exact_match_by_length([3, 4, 5], [10, 45, 0], [10, 50, 9], 4))
    assert "seen in training" not in everything(words.exact_match_by_length([3, 4, 5], [10, 45, 0], [10, 50, 9], 5))


def test_exact_match_by_length_weighs_lengths_by_their_words() -> None:
    said = everything(words.exact_match_by_length([3, 4, 5], [10, 45, 0], [10, 50, 0]))
    assert "91.67% of 60 words" in said and "4\n50" in said


@pytest.mark.parametrize(
    ("length", "correct", "total"),
    [([], [], []), ([5], [0], [3]), ([5], [3], [3]), ([2], [0], [0]), (list(range(60)), [1] * 60, [2] * 60)],
)
def test_exact_match_by_length_at_the_edges(length: list[int], correct: list[int], total: list[int]) -> None:
    figure = words.exact_match_by_length(length, correct, total)
    assert "Exact match by word length" in everything(figure)
    assert figure.get_figwidth() < 12


def test_learning_curves_has_one_axes_per_metric_with_its_splits() -> None:
    points = ([1, 2], [0.5, 0.25])
    names = ["train/loss", "val/loss", "train/accuracy", "train/learning_rate", "plain"]
    figure = learning_curves.learning_curves(dict.fromkeys(names, points))
    titles = [text.get_text() for text in figure.texts if text.get_fontweight() == "bold"]
    assert titles == ["loss", "accuracy", "learning rate", "plain"]
    curves = [line for line in figure.lines if line.get_marker() == "o"]
    assert len(curves) == 5
    assert "val 0.25" in everything(figure)


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"train/loss": ([], [])},
        {"train/loss": ([1, 2, 3], [NAN, INF, -INF]), "val/loss": ([1], [1.0])},
        {"a/b/$c$": ([1, 2], [5.0, 5.0])},
        {"loss": ([1, 2], [1e-30, 1e30])},
        {f"train/m{i}": ([1], [1.0]) for i in range(40)},
    ],
)
def test_learning_curves_at_the_edges(series: dict[str, Any]) -> None:
    figure = learning_curves.learning_curves(series)
    assert everything(figure)
    titles = [text for text in figure.texts if text.get_fontweight() == "bold"]
    assert len(titles) <= max(1, learning_curves.MAX_CURVE_AXES)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 4999))
def test_thinning_keeps_ends_and_spikes(count: int, spike: int) -> None:
    x, y = np.arange(count, dtype=float), np.zeros(count)
    if count:
        y[spike % count] = 9.0
    kept_x, kept_y = learning_curves.thin(x, y)
    assert len(kept_x) == len(kept_y) <= learning_curves.MAX_POINTS
    assert (np.diff(kept_x) > 0).all()
    if count:
        assert kept_y.max() == 9 and kept_x[0] == 0 and kept_x[-1] == count - 1


def test_tick_labels_are_distinct() -> None:
    figure, axes = figures.new_figure(3, 3, left=1, bottom=1, right=1, top=1)
    axes.plot([0, 10], [123456, 123458])
    figures.graduate(axes, [0, 5, 10, 99], MaxNLocator(5))
    said = [text.get_text() for text in figure.texts]
    assert said[:3] == ["0", "5", "10"], "and none outside"
    assert "123456" in said and "123456.5" in said and len(set(said)) == len(said)


def test_save_writes_a_png_and_leaves_nothing_else(tmp_path: Path) -> None:
    figures.save(figures.message("title", "text"), tmp_path / "deep" / "picture.png")
    (path,) = (tmp_path / "deep").iterdir()
    assert path.name == "picture.png" and path.read_bytes().startswith(b"\x89PNG")


def test_a_save_that_fails_keeps_the_picture_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"before")
    figure = figures.message("title", "text")

    def fail(pixels: Any, file: Any) -> None:
        file.write(b"half")
        file.flush()
        raise ZeroDivisionError

    monkeypatch.setattr(figures, "_drawing", figures._drawing._replace(write_png=fail))
    with pytest.raises(ZeroDivisionError):
        figures.save(figure, path)
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == b"before"


def test_threads_may_draw_at_once(tmp_path: Path) -> None:
    def work(index: int) -> None:
        figures.save(learning_curves.learning_curves({"train/loss": ([1, 2], [1.0, index])}), tmp_path / f"{index}.png")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{index}.png" for index in range(4)]


def test_pictures_use_no_global_state() -> None:
    assert "pyplot" not in Path(plots.__file__).read_text().replace("without pyplot", "")


def test_a_temporary_picture_names_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(temporary, "lives", lambda pid: asked.append(pid) or True)

    def look(pixels: Any, file: Any) -> None:
        temporary.left_over(tmp_path)

    monkeypatch.setattr(figures, "_drawing", figures._drawing._replace(write_png=look))
    figures.save(figures.message("nothing", "to see"), tmp_path / "nothing.png")
    assert asked == [os.getpid()]
