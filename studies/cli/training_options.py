"""Options that all commands that train have."""

from __future__ import annotations

import argparse

from studies.cli.inspecting_options import add_trust


def add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, help="CPU threads per trial, at least 1 (default: the cores, divided among workers)"
    )
    parser.add_argument(
        "--plain", action="store_true", help="no acceleration: Lightning's own loop (same as HARNESS_PLAIN=1)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print warnings, errors and the result alone")
    parser.add_argument(
        "--notify",
        metavar="URL",
        help="post a JSON object to this http(s) address when the command has ended or failed (docs/terminal.md)",
    )
    add_trust(parser)
