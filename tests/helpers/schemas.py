"""Checks answers of --json against the published schemas."""

from typing import Any

from jsonschema import Draft202012Validator

from studies.cli import schema


def check(command: str, answer: dict[str, Any], form: str = "answer") -> None:
    """Raises if the answer of a command is not of the form that its schema describes: `answer` or `error`."""
    whole = schema.load(command)
    Draft202012Validator(whole).validate(answer)
    Draft202012Validator({"$ref": f"#/$defs/{form}", "$defs": whole["$defs"]}).validate(answer)
