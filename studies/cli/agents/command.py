"""The command `harness mcp`. Imports the SDK only when it is there."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys

from studies.cli.bad_input import BadInput, at_least
from studies.cli.streams import show
from studies.common.state_folder import StateFolder


def mcp(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    at_least("jobs", options.jobs)
    if importlib.util.find_spec("mcp") is None:
        raise BadInput('mcp needs the package mcp: pip install "studies-harness[mcp]"')
    from studies.cli.agents import server
    from studies.cli.agents.jobs import Jobs, default_folder

    if sys.stdin.isatty():
        show("an agent starts this command and speaks to it (docs/agents.md); Ctrl-C stops it", file=sys.stderr)
    jobs = Jobs(default_folder(), StateFolder.find().folder.absolute(), options.jobs)
    server.serve(options.allow_training, jobs, importlib.metadata.version("studies-harness"))
    return 0
