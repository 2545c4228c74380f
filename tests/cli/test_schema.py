"""The published schemas: complete, valid, closed to unknown fields, and installed with the package."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run
from jsonschema import Draft202012Validator, ValidationError
from schemas import check

from studies.cli import schema
from studies.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
OWN_FIELDS = {"predict"}  # a module's `answers` may add fields
SILENT = {"mcp"}  # commands that answer in another way


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every description of an object with named fields."""
    if isinstance(part, dict):
        if "properties" in part:
            yield part
        for value in part.values():
            yield from objects(value)
    elif isinstance(part, list):
        for value in part:
            yield from objects(value)


def test_every_command_has_a_schema() -> None:
    assert set(schema.names()) == {*COMMANDS, "version", "job", "jobs"} - SILENT


@pytest.mark.parametrize("command", schema.names())
def test_schemas_are_valid_and_closed(command: str) -> None:
    whole = schema.load(command)
    Draft202012Validator.check_schema(whole)
    assert whole["$schema"].endswith("2020-12/schema") and command in whole["title"]
    for item in objects(whole):
        assert set(item["required"]) <= set(item["properties"])
        assert item["additionalProperties"] is False or command in OWN_FIELDS, item


def test_shared_parts_are_equal() -> None:
    known: dict[str, Any] = {}
    for command in schema.names():
        for name, part in schema.load(command)["$defs"].items():
            assert name == "answer" or known.setdefault(name, part) == part, f"{name} differs in {command}"


def test_docs_and_the_package_have_the_same_files() -> None:
    assert (ROOT / "docs/schemas").resolve() == schema.FOLDER.resolve()
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    matched = {path for pattern in package_data["studies.cli"] for path in (ROOT / "studies/cli").glob(pattern)}
    assert matched == set(schema.FOLDER.iterdir())


def test_the_check_notices_a_new_field_and_a_missing_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, answer, _ = run(capsys, "list")
    check("list", answer)
    answer["experiments"][0]["colour"] = "blue"
    with pytest.raises(ValidationError, match="colour"):
        check("list", answer)
    del answer["experiments"][0]["colour"], answer["experiments"][0]["metric"]
    with pytest.raises(ValidationError, match="metric"):
        check("list", answer)


@pytest.mark.parametrize("arguments", [["list"], ["schema"], ["--version"], ["describe", "one_neuron"]])
def test_answers_that_need_no_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, *arguments)
    assert status == 0
    check(arguments[0].strip("-"), answer)


def test_a_schema_is_printed_as_text_and_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "extend"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.load("study")
    status, answer, _ = run(capsys, "schema", "extend")
    assert status == 0 and answer == schema.load("study")
    check("schema", answer, "schema")
    status, answer, _ = run(capsys, "schema", "trian")
    assert status == 2 and "train" in answer["hint"]
    check("schema", answer, "error")


BAD = {
    "compare": ["absent"],
    "confirm": ["absent"],
    "completion": ["bahs"],
    "delete": ["absent", "--yes"],
    "demo": ["--port", "x"],
    "describe": ["mnist_mpl"],
    "diff": ["absent", "absent"],
    "doctor": ["--fiks"],
    "export": ["absent", "--format", "onyx"],
    "extend": ["absent", "--epochs", "0"],
    "forecast": ["one_neuron", "--trials", "0"],
    "gc": ["--yse"],
    "list": ["--all"],
    "lr": ["one_neuron", "--low", "2"],
    "batch-size": ["one_neuron", "--largest", "100"],
    "predict": [],
    "replay": ["absent"],
    "prune-lab": ["absent"],
    "report": ["absent"],
    "resume": ["absent"],
    "runs": ["--limit", "0"],
    "schema": ["absent"],
    "study": ["mnist_mpl"],
    "train": ["one_neuron", "--model.learning_rate"],
    "ui": ["--port", "0"],
    "watch": ["absent"],
}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in SILENT])
def test_bad_input(command: str, empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, err = run(capsys, command, *BAD[command])
    assert status == 2 and answer["error"] in err
    check(command, answer, "error")
    assert not empty_home.exists()
