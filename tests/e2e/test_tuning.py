"""`harness lr` and `harness batch-size`: a suggestion and a picture, and nothing else is left behind."""

import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from process_helpers import HARNESS, TOY, Workspace
from schemas import check

pytestmark = pytest.mark.slow


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix not in (".out", ".err")}


def test_a_learning_rate_is_suggested_and_nothing_is_changed(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    lr = ["lr", TOY, "--data.batch_size", "4", "--seed", "3"]
    status, answer, err = here.run(*lr)
    assert status == 0, err
    check("lr", answer)
    assert left(tmp_path) == {"toy-lr.png"}, "no state folder, no checkpoint"
    with Image.open(tmp_path / answer["picture"]) as picture:
        assert picture.width > 500
    assert answer["parameter"] == "model.learning_rate" and 1e-3 < answer["suggestion"] < 1
    words = shlex.split(answer["command"])
    assert words[:4] == ["harness", "train", TOY, "--data.batch_size"]
    again = here.run(*lr)[1]
    assert again["losses"] == answer["losses"], "the seed decides"
    assert left(tmp_path) == {"toy-lr.png", "toy-lr-2.png"}
    status, trained, err = here.run(*words[1:])
    assert status == 0 and trained["status"] == "finished", err


def test_a_batch_size_is_found_on_a_cpu_with_what_that_means(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    status, answer, err = here.run("batch-size", TOY, "--largest", "8")
    assert status == 0 and answer["batch_size"] == 8 and not answer["holds_all_data"], err
    check("batch-size", answer)
    assert left(tmp_path) == set()
    said = subprocess.run(
        [HARNESS, "batch-size", TOY, "--largest", "1024"],
        cwd=tmp_path,
        env=here.environment,
        capture_output=True,
        text=True,
    )
    assert "holds all training data" in said.stdout and "On a CPU memory is rarely" in said.stdout


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    (tmp_path / "taken.png").write_text("mine")
    for arguments, said in {
        ("lr", "tyo"): "unknown experiment tyo",
        ("lr", TOY, "--model.learning_rat", "1"): "did you mean model.learning_rate?",
        ("lr", TOY, "--output", "taken.png"): "taken.png already exists",
        ("lr", TOY, "--output", "curve.gif"): "must be a .png file",
        ("batch-size", TOY, "--threads", "0"): "threads must be at least 1",
    }.items():
        status, answer, err = here.run(*arguments)
        assert status == 2 and said in f"{answer['error']}; {answer['hint']}", err
    assert left(tmp_path) == {"taken.png"} and (tmp_path / "taken.png").read_text() == "mine"
