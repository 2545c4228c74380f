"""`harness predict` after real fits of each family, as for a user, and after a study."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from process_helpers import HARNESS, Workspace

FAMILIES = {
    "table": ["one_neuron", "--trainer.max_epochs", "2"],
    "images": ["mnist_speedrun", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "60"],
    "words": ["reverse_gru", "--trainer.max_steps", "20", "--trainer.val_check_interval", "20"],
}


def predict(workspace: Workspace, *arguments: str, stdin: bytes = b"") -> tuple[int, dict[str, Any], str]:
    command = [HARNESS, "predict", *arguments, "--json"]
    result = subprocess.run(command, input=stdin, capture_output=True, cwd=workspace.folder, env=workspace.environment)
    return result.returncode, json.loads(result.stdout.splitlines()[-1]), result.stderr.decode()


@pytest.mark.slow
def test_a_model_of_each_family_answers_and_invalid_inputs_give_one_line(tmp_path: Path) -> None:
    workspace, runs = Workspace(tmp_path), {}
    for family, arguments in FAMILIES.items():
        status, answer, err = workspace.run("train", *arguments, "--no-test")
        assert status == 0, err
        runs[family] = answer["run_id"]

    table = tmp_path / "rows.csv"
    table.write_text("x1,x2\n-1.5,-1\n1.5,1\n")
    status, answer, err = predict(workspace, runs["table"][:12], "rows.csv")
    assert status == 0, err
    assert [row["answer"] for row in answer["predictions"]] == ["0", "1"]
    checkpoint = workspace.home / "trials" / runs["table"] / "checkpoints" / "best.ckpt"
    piped = predict(workspace, str(checkpoint), stdin=table.read_bytes())[1]["predictions"]
    assert [row["probabilities"] for row in piped] == [row["probabilities"] for row in answer["predictions"]]

    photo = Image.new("RGB", (300, 200), (240, 230, 210))
    ImageDraw.Draw(photo).line((150, 40, 150, 160), fill=(20, 20, 90), width=14)
    photo.save(tmp_path / "one.jpg")
    status, answer, err = predict(workspace, runs["images"], "one.jpg")
    assert status == 0, err
    assert answer["predictions"][0]["answer"] == "1" and len(answer["predictions"][0]["notes"]) == 3
    piped = predict(workspace, runs["images"], stdin=(tmp_path / "one.jpg").read_bytes())[1]
    assert piped["predictions"][0]["probabilities"] == answer["predictions"][0]["probabilities"]

    status, answer, err = predict(workspace, runs["words"], stdin=b"yekrut\ntac\n")
    assert status == 0, err
    assert [row["input"] for row in answer["predictions"]] == ["yekrut", "tac"]

    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7 and so on")
    (tmp_path / "empty.png").touch()
    (tmp_path / "short.csv").write_text("x1\n1\n")
    for arguments, said in {
        (runs["images"], "paper.pdf"): "paper.pdf is no image that can be read",
        (runs["images"], "empty.png"): "empty.png is empty",
        (runs["words"], "yekrut7"): "but got '7' in 'yekrut7'",
        (runs["words"], "y" * 10_000): "words must have 1 to 12 characters",
        (runs["table"], "short.csv"): "short.csv lacks the columns x2",
        (runs["table"],): "no INPUT was given",
        ("0123abcd", "rows.csv"): "unknown run 0123abcd",
        ("models:/nothing@champion", "rows.csv"): "there is no registered model models:/nothing@champion",
    }.items():
        status, answer, err = predict(workspace, *arguments)
        assert status == 2 and said in answer["error"], (arguments, err)
        assert "Traceback" not in err and err.splitlines()[-1].startswith("harness: ")


@pytest.mark.slow
def test_the_champion_of_a_study_answers(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("study", "one_neuron", "--trials", "2", "--trainer.max_epochs", "2")
    assert status == 0, err
    best = answer["best"]["run_id"]
    (tmp_path / "rows.csv").write_text("x1,x2\n-1.5,-1\n1.5,1\n")
    for model in ("models:/one_neuron@champion", "models:/one_neuron/1"):
        status, answer, err = predict(workspace, model, "rows.csv")
        assert status == 0, err
        assert answer["run_id"] == best
        assert [row["answer"] for row in answer["predictions"]] == ["0", "1"]
