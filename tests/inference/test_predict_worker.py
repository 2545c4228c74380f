import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from datamodules import MNIST
from lightning_modules import CNN, GRUSeq2Seq
from studies.cli import output as report
from studies.common.state_folder import StateFolder
from studies.inference import predict as asking
from studies.inference.predict_worker import predict
from studies.inference.trained_model import find
from studies.trial.instantiate import build


def test_words_are_written_with_their_probability(words: dict[str, Any]) -> None:
    answer = predict({**words, "items": ["tac", "Eht", "a"]})["predictions"]
    assert [row["input"] for row in answer] == ["tac", "eht", "a"]
    assert answer[1]["notes"] == ["written in small letters"] and answer[0]["notes"] == []
    assert all(0 < row["probability"] <= 1 and isinstance(row["answer"], str) for row in answer)
    alone = predict({**words, "items": ["a"]})["predictions"][0]
    assert alone["answer"] == answer[2]["answer"]
    assert alone["probability"] == pytest.approx(answer[2]["probability"], rel=1e-4), "independent of the batch"


def test_the_probability_of_a_word_is_the_product_of_its_characters(words: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = GRUSeq2Seq(hidden_size=8, vocab_size=6, max_length=3, characters="abc")
    source = torch.tensor([[3, 4, 0]])
    (answer,) = module.answers(source)
    state, character, product = module.encode(source), torch.tensor([[module.start_id]]), 1.0
    each = []
    for written in module(source)[0].tolist():
        outputs, state = module.decoder(module._one_hot(character), state)
        each.append(module.output(outputs).softmax(dim=2)[0, 0, written].item())
        product *= each[-1]
        character = torch.tensor([[written]])
        if written == module.end_id:
            break
    assert answer["probability"] == pytest.approx(product, rel=1e-4)
    assert [letter["probability"] for letter in answer["letters"]] == pytest.approx(each, rel=1e-4)
    assert "".join(letter["letter"] for letter in answer["letters"]) == answer["answer"]


def test_rows_of_a_table(table: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("name,x2,x1\nfirst,0.5,-1\nsecond,-0.5,2\n")
    first, second = predict({**table, "items": [str(file)]})["predictions"]
    assert (first["input"], second["input"]) == (f"{file}:2", f"{file}:3")
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["probability"] == max(first["probabilities"].values())
    file.write_text("x1,x2\n-1,0.5\n")
    assert predict({**table, "items": [str(file)]})["predictions"][0]["probabilities"] == first["probabilities"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x1\n1\n", "lacks the columns x2 (it needs x1, x2)"),
        ("", "lacks the columns x1, x2 (its first line must name them)"),
        ("x1,x2\n", "has no rows"),
        ("x1,x2\n1,two\n", "rows.csv:2: x2 must be a finite number, but got 'two'"),
        ("x1,x2\n1,nan\n", "x2 must be a finite number, but got 'nan'"),
        ("x1,x2\n1\n", "x2 must be a finite number, but got None"),
    ],
)
def test_an_invalid_table_gives_one_line(table: dict[str, Any], tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    assert said in predict({**table, "items": [str(file)]})["error"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("c4t", "word must consist of the characters abc"),
        ("", "words must have 1 to 12 characters, but '' has 0"),
        ("a" * 10_000, "characters, but 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' has 10000"),
    ],
)
def test_an_invalid_word_gives_one_line(words: dict[str, Any], word: str, said: str) -> None:
    error = predict({**words, "items": [word]})["error"]
    assert said.replace("abc", "a") in error and "\n" not in error and len(error) < 200
    assert predict({**words, "items": ["cat", word]})["errors"] == [{"input": word, "error": error}]


def test_images_go_through_the_datamodule(tmp_path: Path) -> None:
    Image.new("L", (28, 28), 0).save(tmp_path / "blank.png")
    figure = Image.new("L", (90, 90), 255)
    figure.paste(0, (30, 20, 40, 70))
    figure.save(tmp_path / "one.png")
    batch, names, notes = MNIST().inputs([str(tmp_path / "one.png")])
    assert batch.shape == (1, 1, 28, 28) and batch.dtype == torch.float32
    assert names == [str(tmp_path / "one.png")] and len(notes[0]) == 2
    torch.manual_seed(0)
    (answer,) = CNN(width=2).answers(batch)
    assert set(answer["probabilities"]) == set("0123456789")
    with pytest.raises(ValueError, match="is blank"):
        MNIST().inputs([str(tmp_path / "blank.png")])


def test_a_model_is_found_by_run_id_prefix_or_checkpoint(words: dict[str, Any], tmp_path: Path) -> None:
    home = StateFolder(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "")
    for name in ("aa01", "aa", words["checkpoint"]):
        model = find(name, home, tmp_path)
        assert (model.run_id, str(model.checkpoint)) == ("aa01", words["checkpoint"])


def test_a_missing_model_gives_one_line(words: dict[str, Any], table: dict[str, Any], tmp_path: Path) -> None:
    home = StateFolder(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "")
    stray = tmp_path / "stray.ckpt"
    stray.touch()
    tiny_models.trained(tmp_path, "aa02", torch.nn.Linear(1, 1), {}, {})
    for name, said in {
        "aa": "2 runs begin with aa",
        "nowhere.ckpt": "there is no checkpoint nowhere.ckpt",
        str(stray): "not in a trial's folder",
        "models:/mnist_mlp": "a registered model must be models:/NAME@ALIAS or models:/NAME/VERSION",
        "cc": "there are no runs in",
    }.items():
        with pytest.raises(ValueError, match=said):
            find(name, home, tmp_path)


def test_stdin_holds_lines_or_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: bytes) -> list[str]:
        class Stdin:
            buffer = io.BytesIO(content)

            @staticmethod
            def isatty() -> bool:
                return False

        monkeypatch.setattr(sys, "stdin", Stdin)
        return asking._from_stdin(tmp_path)

    assert given(b"tac\n\n god \n") == ["tac", "god"]
    assert given(b"") == []
    assert given(b"x1,x2\n1,2\n") == [str(tmp_path / "stdin.csv")]
    assert given(b"\x89PNG and so on") == [str(tmp_path / "stdin.png")]
    assert (tmp_path / "stdin.png").read_bytes() == b"\x89PNG and so on"
    with pytest.raises(ValueError, match="stdin must be text, a PNG or a JPEG"):
        given(b"%PDF \xff\xfe")


def test_answers_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"input": "yekrut", "notes": [], "answer": "turkey", "probability": 0.998},
        {"input": "rows.csv:2", "notes": ["so and so"], "answer": 152.1334},
    ]
    assert report.predicted({"predictions": rows, "errors": []}, as_json=False) == 0
    assert capsys.readouterr().out == "yekrut     -> turkey  99.8%\nrows.csv:2 -> 152.133  (so and so)\n"
    report.predicted({"predictions": rows, "errors": []}, as_json=True)
    assert json.loads(capsys.readouterr().out)["predictions"] == rows


def test_a_module_or_datamodule_without_prediction_is_reported(tmp_path: Path) -> None:
    sections = {"class_path": "toy.Toy", "init_args": {}}, {"class_path": "toy.ToyData", "init_args": {}}
    module = build({"model": sections[0], "data": sections[1], "trainer": {}}, 0).module
    payload = tiny_models.trained(tmp_path, "dd04", module, *sections)
    assert predict({**payload, "items": ["a"]})["error"] == "ToyData has no method inputs, which prediction needs"


def test_one_bad_input_leaves_the_other_answers(words: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    answer = predict({**words, "items": ["tac", "tac7", "eht", "t" * 99]})
    assert [row["input"] for row in answer["predictions"]] == ["tac", "eht"]
    assert answer["predictions"][1] == predict({**words, "items": ["tac", "eht"]})["predictions"][1]
    assert [bad["input"] for bad in answer["errors"]] == ["tac7", "t" * 99]
    assert report.predicted(answer, as_json=False) == 1
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["tac", "eht"]
    assert len(captured.err.splitlines()) == 2 and "'7' in 'tac7'" in captured.err
    assert report.predicted(answer, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["errors"] == answer["errors"]


def test_nothing_is_answered_if_all_inputs_are_bad(words: dict[str, Any]) -> None:
    answer = predict({**words, "items": ["tac7", "tac8"]})
    assert answer.keys() == {"error"} and "'7' in 'tac7'" in answer["error"] and "'8' in 'tac8'" in answer["error"]


def test_a_file_that_is_missing_is_one_bad_input(table: dict[str, Any], tmp_path: Path) -> None:
    good, absent = tmp_path / "rows.csv", tmp_path / "absent.csv"
    good.write_text("x1,x2\n-1,0.5\n")
    answer = predict({**table, "items": [str(absent), str(good)]})
    assert len(answer["predictions"]) == 1
    assert answer["errors"] == [{"input": str(absent), "error": f"there is no file {absent}"}]
