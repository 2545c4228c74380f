"""Runs the command line in this process."""

import json
from typing import Any

import pytest

from studies.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON object and stderr of `harness ... --json`."""
    capsys.readouterr()
    status = main([*argv, "--json"])
    captured = capsys.readouterr()
    lines = captured.out.strip().splitlines()
    assert len(lines) == 1, "everything but the JSON object goes to stderr"
    return status, json.loads(lines[0]), captured.err
