"""Tools of `harness mcp` become command lines that the command understands."""

import re
from pathlib import Path
from typing import Any

import pytest

from studies.cli.agents.tools import TOOLS, Tool, checked, command_line, find_tool
from studies.cli.bad_input import BadInput
from studies.cli.parser import parse

ROOT = Path(__file__).parents[3]
VALUES: dict[str, Any] = {
    "string": "--fix",
    "integer": 3,
    "number": 2.5,
    "boolean": False,
    "array": ["aa", "bb"],
    "object": {"model.net.width": [1e-5, None]},
}
COMMANDS = [tool for tool in TOOLS if tool.command]


def line_of(name: str, **arguments: Any) -> list[str]:
    tool = find_tool(name, training=True)
    return command_line(tool, checked(tool, arguments))


@pytest.mark.parametrize("tool", COMMANDS, ids=lambda tool: tool.name)
def test_every_argument_is_an_option_of_the_command(tool: Tool) -> None:
    given = {name: VALUES[part["type"]] for name, part in tool.arguments.items()}
    given |= {"experiment": "toy"} if "experiment" in tool.arguments else {}
    given |= {"tags": {"a": "b"}} if "tags" in tool.arguments else {}
    options, overrides = parse(command_line(tool, checked(tool, given)))
    assert options.command == tool.command and options.json
    for name, value in given.items():
        if name == "overrides":
            assert overrides == {"model.net.width": "[1e-05, null]"}
        elif name == "tags":
            assert options.tag == ["a=b"]
        elif name == "test":
            assert options.no_test
        else:
            assert getattr(options, name) == value, "a value that looks like an option stays a value"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("compare", {"runs": ["aa", "--csv"]}, "runs must be a name or a path, but got runs='--csv'"),
        ("compare", {"runs": [1]}, "runs must be of type array of strings"),
        ("compare", {}, "compare needs runs: each a run id"),
        ("runs", {"limit": True}, "limit must be of type integer, but got limit=True"),
        ("runs", {"wehre": "x"}, "unknown argument wehre of runs; did you mean where?"),
        ("train", {"experiment": "toy", "overrides": {"seed": 3}}, "overrides: seed is no parameter"),
        ("train", {"experiment": "toy", "overrides": {"model.a=1 --trust": 3}}, "is no parameter"),
        ("trian", {}, "unknown tool trian; did you mean train?"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as error:
        line_of(name, **arguments)
    assert said in str(error.value)


def test_an_agent_gets_few_runs_unless_it_asks_for_more() -> None:
    assert line_of("runs") == line_of("runs", limit=None) == ["runs", "--limit=20", "--json"]
    assert line_of("runs", limit=99) == ["runs", "--limit=99", "--json"]


def test_the_documentation_names_every_tool() -> None:
    table = re.findall(r"^\| ([a-z_, ;]+) \|", (ROOT / "docs/agents.md").read_text(), re.MULTILINE)
    assert {name for row in table for name in re.split("[,; ]+", row)} == {"tool", *(tool.name for tool in TOOLS)}


def test_training_must_be_allowed() -> None:
    with pytest.raises(BadInput, match="allow-training"):
        find_tool("train", training=False)
    assert find_tool("runs", training=False).name == "runs"
