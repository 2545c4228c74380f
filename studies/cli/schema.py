"""`harness schema`: the published JSON Schemas (draft 2020-12) of what commands answer with --json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from studies.cli.bad_input import BadInput
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.common.suggestions import did_you_mean

FOLDER = Path(__file__).with_name("schemas")  # docs/schemas is a link to it
SAME = {"resume": "train", "extend": "study", "compare": "runs"}  # command -> the one whose answers are alike


def names() -> list[str]:
    """The commands that have a schema."""
    return sorted([*(path.stem for path in FOLDER.glob("*.json")), *SAME])


def load(command: str) -> dict[str, Any]:
    """The schema of a command's answers: of its `answer`, or of an `error`.

    Raises:
        BadInput: there is no such command.
    """
    if command not in names():
        raise BadInput(f"no schema of {command}{did_you_mean(command, names())}")
    path = FOLDER / f"{SAME.get(command, command)}.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def schema(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """`harness schema`: lists the commands, or prints the schema of one."""
    if options.of is None:
        if options.json:
            print_json({"schemas": names()})
        else:
            show("\n".join(names()))
            show("\nnext: harness schema train")
    elif options.json:
        print_json(load(options.of))
    else:
        show(json.dumps(load(options.of), indent=2))
    return 0
