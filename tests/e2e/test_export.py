"""`harness export` after real fits of each family, as for a user: each file is used as the command prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_helpers import HARNESS, Workspace
from test_predict import FAMILIES

SHAPES = {"table": "5, 2", "images": "5, 1, 28, 28", "words": "3, 6"}


def use(workspace: Workspace, run: str, family: str, format: str) -> str:
    """Exports a run, runs the printed code and returns the output's shape."""
    command = [HARNESS, "export", run, "--format", format]
    result = subprocess.run(command, capture_output=True, text=True, cwd=workspace.folder, env=workspace.environment)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr, result.stderr
    file, name = result.stdout.split()[1], result.stdout.split("input ")[1].split()[0]
    assert (workspace.folder / file).is_file() and file.endswith(f"-{run[:8]}.{format}")
    made = f"torch.{'randint(3, 29, ' if family == 'words' else 'randn('}({SHAPES[family]}))"
    made += ".numpy()" if format == "onnx" else ""
    lines = [line.strip() for line in result.stdout.splitlines() if line.startswith("    ")]
    ends = ["output = module(" + name + ")"] if format == "safetensors" else []
    program = "\n".join(["import torch", f"{name} = {made}", *lines, *ends, "print(tuple(output.shape))"])
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=workspace.folder)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "gives"), [("table", "(5, 1)"), ("images", "(5, 10)"), ("words", "(3, 13)")])
def test_each_format_of_each_family_is_used_as_the_command_says(family: str, gives: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    status, answer, err = workspace.run("train", *FAMILIES[family], "--no-test")
    assert status == 0, err
    run = answer["run_id"]
    for format in ("onnx", "pt2", "safetensors"):
        assert use(workspace, run, family, format) == gives
    exported = {path.name for path in tmp_path.iterdir() if run[:8] in path.name}
    assert len(exported) == 3

    def export(*arguments: str) -> tuple[int, dict[str, Any], str]:
        return workspace.run("export", *arguments)

    checkpoint = workspace.home / "trials" / run / "checkpoints" / "best.ckpt"
    status, answer, err = export(str(checkpoint), "--format", "pt2", "--output", "mine.pt2")
    assert status == 0, err
    assert json.dumps(answer["check"]) and answer["bytes"] == (tmp_path / "mine.pt2").stat().st_size
    assert answer["check"]["largest_difference"] <= answer["check"]["tolerance"]
    for arguments, said in {
        (run, "--format", "onnx"): "already exists",
        (run, "--format", "onxx"): "unknown format onxx",
        ("0123abcd", "--format", "onnx"): "unknown run 0123abcd",
    }.items():
        status, answer, err = export(*arguments)
        assert status == 2 and said in answer["error"], (arguments, err)
    assert not list(tmp_path.glob(".*"))
