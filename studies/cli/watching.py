"""`harness watch`: the live table of a study that another terminal drives."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import time

from studies.cli.bad_input import BadInput
from studies.cli.output import print_json, with_short_ids
from studies.cli.streams import show
from studies.common.state_folder import StateFolder
from studies.console.tables import leaderboard

LOOK_SECONDS = 1.0  # between two looks, or as much longer as keeps looking below a tenth of the time
SAID = {
    "finished": "finished",
    "failed": "failed",
    "timeout": "ended by --timeout: run the same command again to resume",
    "interrupted": "interrupted: run the same command again to resume",
    "driver gone": "the process that ran it is gone: run the same command again to resume, or `harness doctor` to "
    "check what it left",
}


def watch(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    """Returns 0 if the study has finished, also by its --timeout, or --json was given, else 1; 130 after Ctrl-C."""
    state_folder = StateFolder.find(options.storage)
    if not state_folder.folder.exists() and options.storage is None:
        raise BadInput(f"no studies yet in {state_folder.folder}: `harness study NAME` creates one")
    from studies.driver.watch import Watch

    study = Watch(state_folder, options.study)
    if options.json:
        unseen = study.display(live=False, stream=io.StringIO())  # the same figures as the table's
        study.look(unseen)
        print_json(study.to_json(unseen))
        return 0
    try:
        with study.display(stream=sys.stdout) as display:
            while True:
                began = time.monotonic()
                study.look(display)
                if study.status != "running":
                    break
                time.sleep(max(LOOK_SECONDS, 9 * (time.monotonic() - began)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    best = None if study.best is None else study.best.number
    further = {name: way for name, way in study.search.objectives.items() if name != study.metric}
    rows = with_short_ids([row.to_json() for row in study.rows])
    show(leaderboard(rows, study.metric, study.direction, best, further=further))
    show(f"\nstudy  {study.name}  {SAID[study.status]}")
    return 0 if study.status in ("finished", "timeout") else 1
