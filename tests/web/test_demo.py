import io
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
import tiny_mnist
import tiny_models
import torch
from PIL import Image, ImageDraw, ImageFile

from studies.common.state_folder import StateFolder
from studies.console.progress import Display
from studies.inference.predict_worker import predict
from studies.inference.trained_model import find
from studies.web import demo
from studies.web.demo import ModelPanel, kind_of, open_panels


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_mnist.use(monkeypatch)
    tiny_mnist.write(tmp_path, tiny_mnist.FILES)


def home(folder: Path) -> StateFolder:
    return StateFolder(folder, f"sqlite:///{folder}/mlflow.db", "")


def panel(folder: Path, run_id: str) -> ModelPanel:
    found = ModelPanel.of(find(run_id, home(folder), folder), folder)
    assert found is not None
    return found


def opened(folder: Path, model: str | None = None) -> list[ModelPanel]:
    with Display(title="demo", metric=None, direction="maximize", total=1) as display:
        return open_panels(model, home(folder), folder, display)


def png(shape: tuple[int, ...] | None) -> bytes:
    image = Image.new("L", (280, 280), 0)
    if shape is not None:
        ImageDraw.Draw(image).line(shape, fill=255, width=20)
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


def test_a_word_is_answered_as_predict_does_letter_by_letter(tmp_path: Path) -> None:
    payload = tiny_models.words(tmp_path)
    said = panel(tmp_path, "aa01").ask(b"Yekrut")
    assert said == predict({**payload, "items": ["Yekrut"]})["predictions"][0]
    assert said["notes"] == ["written in small letters"]
    assert [letter["letter"] for letter in said["letters"]][: len(said["answer"])] == list(said["answer"])
    product = torch.tensor([letter["probability"] for letter in said["letters"]]).prod().item()
    assert said["probability"] == pytest.approx(product, rel=1e-4)


def test_a_drawing_is_answered_as_predict_does_and_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    payload = tiny_models.digits(tmp_path)
    content = png((140, 60, 140, 220))
    said = panel(tmp_path, "cc03").ask(content)
    (tmp_path / "same.png").write_bytes(content)
    expected = predict({**payload, "items": [str(tmp_path / "same.png")]})["predictions"][0]
    assert {**said, "input": "", "seen": None} == {**expected, "input": "", "seen": None}
    seen = torch.tensor(said["seen"]["pixels"]).view(28, 28)
    assert seen.min() == 0 and seen.max() == 255
    assert (seen > 127).float().mean(dim=0).argmax() in (13, 14), "a stroke down the middle"


@pytest.mark.parametrize(
    ("content", "said"),
    [(png(None), "the drawing is blank"), (b"%PDF", "the drawing is no image"), (b"", "the drawing is empty")],
)
def test_a_drawing_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    tiny_models.digits(tmp_path)
    answer = panel(tmp_path, "cc03").ask(content)
    assert answer["error"].startswith(said) and str(tmp_path) not in answer["error"]


@pytest.mark.parametrize("mode", ["RGB", "1"])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("png", "the drawing is too large: 1001x1000 pixels, at most 1000000 are read"),
        ("gif", "the drawing must be a PNG, as from the page, but is a GIF"),
        ("webp", "the drawing must be a PNG, as from the page, but is a WEBP"),
    ],
)
def test_a_large_drawing_is_refused_before_its_turn_and_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, expected: str, mode: str
) -> None:
    """It would take memory and seconds for which other visitors wait."""
    tiny_models.digits(tmp_path)
    shown = panel(tmp_path, "cc03")
    file = io.BytesIO()
    Image.new(mode, (1001, 1000)).save(file, form)
    monkeypatch.setattr(shown, "_lock", None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert shown.ask(file.getvalue())["error"].startswith(expected)


def test_a_header_may_say_anything(tmp_path: Path) -> None:
    content = bytearray(png(None))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    tiny_models.digits(tmp_path)
    assert "too large" in panel(tmp_path, "cc03").ask(bytes(content))["error"]


@pytest.mark.parametrize("word", [b"yekrut7", b"y" * 10_000, b"\xff\xfe"])
def test_a_word_that_cannot_be_read_is_one_line(tmp_path: Path, word: bytes) -> None:
    tiny_models.words(tmp_path)
    answer = panel(tmp_path, "aa01").ask(word)
    assert set(answer) == {"error"} and "\n" not in answer["error"] and len(answer["error"]) < 200


def test_the_newest_of_each_kind_are_shown_and_tables_are_skipped(tmp_path: Path) -> None:
    for age, (make, run_id) in enumerate(
        [
            (tiny_models.table, "b1"),
            (tiny_models.words, "a1"),
            (tiny_models.words, "a2"),
            (tiny_models.digits, "c1"),
            (tiny_models.digits, "c2"),
        ]
    ):
        checkpoint = make(tmp_path, run_id)["checkpoint"]
        os.utime(checkpoint, (1e9 - age, 1e9 - age))
    assert [(panel.kind, panel.run_id) for panel in opened(tmp_path)] == [("drawing", "c1"), ("word", "a1")]
    assert [(panel.kind, panel.run_id) for panel in opened(tmp_path, "a2")] == [("word", "a2")]


def test_a_kind_without_a_model_is_named_with_the_command_that_trains_one(tmp_path: Path) -> None:
    tiny_models.digits(tmp_path)
    (item,) = demo.missing(opened(tmp_path))
    assert item["kind"] == "word" and item["command"] == "harness train reverse_gru"
    assert demo.missing([]) and [item["kind"] for item in demo.missing([])] == ["drawing", "word"]


def test_an_unreadable_run_is_replaced_by_an_older_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_models.words(tmp_path, "a1")
    os.utime(tmp_path / "trials/a1/checkpoints/best.ckpt", (1e9, 1e9))
    Path(tiny_models.words(tmp_path, "a2")["checkpoint"]).write_bytes(b"torn")
    assert [panel.run_id for panel in opened(tmp_path)] == ["a1"]
    assert "run a2 cannot be used" in capsys.readouterr().err


def test_with_nothing_to_show_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no model in .* takes drawings or words: train one with `harness train mnist_speedrun` or"
    ):
        opened(tmp_path)
    tiny_models.table(tmp_path)
    with pytest.raises(ValueError, match=r"takes neither drawings nor words.*use `harness predict bb02 INPUT`"):
        opened(tmp_path, "bb02")


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [
        ({"image_shape": [1, 28, 28], "num_classes": 10}, "drawing"),
        ({"vocab_size": 29}, "word"),
        ({"characters": ["a"]}, "word"),
        ({"input_shape": [2]}, None),
        ({}, None),
    ],
)
def test_a_models_input_kind_follows_from_its_sizes(sizes: dict[str, Any], kind: str | None) -> None:
    assert kind_of(sizes) == kind


def test_a_port_out_of_range_is_rejected_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "open_panels", lambda *arguments: pytest.fail("models were read"))
    with pytest.raises(ValueError, match="port must be between 1 and 65535"):
        demo.demo(None, "127.0.0.1", 0, False, lambda url, run_ids: None)
