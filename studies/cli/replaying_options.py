"""Options of `harness replay`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studies.cli.inspecting_options import RUN, add_trust


def add_replaying(command: Callable[..., Any]) -> None:
    replay = command(
        "replay",
        "train a run again and say 'identical', or where it first parts and the likely reason; or draw a study's "
        "parameters again",
    )
    replay.add_argument("run", metavar="RUN|STUDY", help=f"{RUN}; or the name of a study")
    replay.add_argument(
        "--here", action="store_true", help="with today's code instead of the run's; the changed lines are named"
    )
    replay.add_argument("--threads", type=int, help="CPU threads, at least 1 (default: as many as the run had)")
    replay.add_argument(
        "--plain", action="store_true", help="no acceleration: Lightning's own loop (same as HARNESS_PLAIN=1)"
    )
    replay.add_argument("-q", "--quiet", action="store_true", help="print warnings, errors and the result alone")
    add_trust(replay)
