import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from studies.cli import output as report
from studies.cli.main import main
from studies.inference.export import default_name, export

ANSWER = {
    "run_id": "bb02",
    "format": "onnx",
    "path": "a.onnx",
    "class_path": "lightning_modules.GRUSeq2Seq",
    "bytes": 815_945,
    "inputs": [{"name": "source", "dtype": "int64", "shape": ["batch", "length"]}],
    "outputs": [{"name": "output", "dtype": "int64", "shape": ["batch", 13]}],
    "at_most": {"length": 12},
    "check": {
        "inputs": 160,
        "batches": [1, 7, 160],
        "lengths": [1, 12],
        "largest_difference": 0.0,
        "tolerance": 0.0,
    },
}


@pytest.fixture
def model(table: dict[str, Any], tmp_path: Path, empty_home: Path) -> str:
    """A trained model's checkpoint in an otherwise empty working folder."""
    return str(table["checkpoint"])


@pytest.fixture
def nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: Any) -> None:
        raise AssertionError("a process was asked")

    monkeypatch.setattr("studies.executors.local.LocalExecutor.call", call)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["export", *arguments])
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return status, err


@pytest.mark.usefixtures("nothing_is_asked")
def test_errors_are_one_line_and_nothing_is_written(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for arguments, expected in {
        (model, "--format", "onx"): "unknown format onx; did you mean onnx? (allowed: onnx, pt2, safetensors)",
        (model,): "the following arguments are required: --format",
        ("nowhere.ckpt", "--format", "pt2"): "there is no checkpoint nowhere.ckpt",
        ("0123", "--format", "pt2"): "there are no runs in",
        (model, "--format", "pt2", "--output", "no/such/file.pt2"): "there is no folder no/such to write file.pt2 in",
        (model, "--format", "pt2", "--output", "trials"): "trials is a folder: --output must name a file",
        (model, "--format", "pt2", "--output", "there.onnx"): "there.onnx already exists: choose another --output",
        (model, "--format", "pt2", "--output", "a" * 300): "cannot be written: File name too long",
    }.items():
        status, err = said(capsys, *arguments)
        assert status == 2 and expected in err, (arguments, err)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.usefixtures("nothing_is_asked")
def test_a_missing_library_is_named_with_how_to_install_it(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name))
    status, err = said(capsys, model, "--format", "onnx")
    assert status == 2
    assert 'format onnx needs onnx, onnxscript, onnxruntime: pip install "studies-harness[export]"' in err


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        ({"error": "it has no weights"}, 2, "it has no weights"),
        (
            {"failed": "the file differs from the model by 3"},
            1,
            "could not be exported: the file differs from the model by 3",
        ),
    ],
)
def test_a_failure_leaves_no_file(
    answer: dict[str, str],
    status: int,
    expected: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(executor: Any, function: str, payload: dict[str, Any], while_waiting: Any) -> dict[str, str]:
        Path(payload["path"]).write_text("half of it")
        return answer

    monkeypatch.setattr("studies.executors.local.LocalExecutor.call", call)
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", model, "--format", "pt2", "--output", "a.pt2", "--json"]) == status
    out, err = capsys.readouterr()
    assert expected in json.loads(out.splitlines()[-1])["error"] and expected in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_written_under_its_experiment_and_run(model: str, tmp_path: Path) -> None:
    answer = export(model, "safetensors", None)
    assert answer["path"] == "mlp-bb02.safetensors", "no database knows the run, so it is called by its class"
    file = tmp_path / answer["path"]
    assert file.stat().st_size == answer["bytes"] and file.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert (answer["run_id"], answer["format"]) == ("bb02", "safetensors")
    assert not list(tmp_path.glob(".*"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_output_describes_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.exported(ANSWER, as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "file    a.onnx  0.816 MB",
        "input   source int64 (batch, length), length at most 12",
        "output  output int64 (batch, 13)",
        "checked on 160 real inputs, batches of 1, 7 and 160, lengths 1 to 12: all outputs are equal",
        "",
        "    import onnxruntime",
        "    session = onnxruntime.InferenceSession('a.onnx')",
        '    (output,) = session.run(None, {"source": source})  # NumPy arrays',
    ]
    check = {**ANSWER["check"], "lengths": None, "largest_difference": 2.4e-6, "tolerance": 1e-4}  # type: ignore[dict-item]
    report.exported({**ANSWER, "check": check}, as_json=False)
    assert "largest difference 2.4e-06 (tolerance 1e-04)" in capsys.readouterr().out
    report.exported(ANSWER, as_json=True)
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.parametrize("name", ["mnist_mlp", "../../x", "/etc/x", "a b", "a\nb"])
def test_the_default_file_is_in_the_current_folder(name: str) -> None:
    found = default_name(name, "0123456789abcdef", "onnx")
    assert Path(found).name == found and found.endswith("-01234567.onnx")
