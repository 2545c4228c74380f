"""`harness delete` and `harness gc`: show what would go, ask, and delete it."""

from __future__ import annotations

import argparse
import sys

from studies.cli.bad_input import BadInput
from studies.cli.commands import open_tracking
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.common.state_folder import StateFolder


def delete(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.driver import deletion

    tracking, state_folder = open_tracking(), StateFolder.find(options.storage)
    targets = deletion.find_targets(options.names, state_folder, tracking)
    for target in targets:
        show(f"{target.what}, {_megabytes(target.size)}", file=sys.stderr)
    if not _agreed(options.yes, "delete"):
        return _kept(options.json)
    deletion.delete(targets, state_folder, tracking, lambda line: show(line, file=sys.stderr))
    freed = sum(target.size for target in targets)
    if options.json:
        runs = [run.run_id for target in targets for run in target.runs]
        print_json({"deleted": runs, "studies": [target.study for target in targets if target.study], "freed": freed})
    else:
        show(f"freed {_megabytes(freed)}; MLflow's trash keeps parameters and metrics until `harness gc`")
    return 0


def gc(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    from studies.driver import deletion

    tracking, state_folder = open_tracking(), StateFolder.find(options.storage)
    if state_folder.is_remote:
        raise BadInput(f"gc works on a local database, but MLFLOW_TRACKING_URI is {state_folder.tracking_uri}")
    runs = deletion.trash(state_folder, tracking)
    folders = [folder for run in runs for folder in deletion.folders_of(run, state_folder)]
    size = sum(map(deletion.size_of, folders))
    show(f"{len(runs)} deleted {'run' if len(runs) == 1 else 'runs'} in MLflow, {_megabytes(size)}", file=sys.stderr)
    if runs:
        if not _agreed(options.yes, "delete them for good"):
            return _kept(options.json)
        deletion.empty_trash(runs, state_folder)
    if options.json:
        print_json({"deleted": [run.run_id for run in runs], "freed": size})
    elif runs:
        show(f"freed {_megabytes(size)}")
    return 0


def _agreed(yes: bool, what: str) -> bool:
    """Whether the user agrees: by --yes, or by an answer at the terminal.

    Raises:
        BadInput: there is nobody to ask.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise BadInput(f"cannot ask whether to {what}, as stdin is not a terminal: give --yes")
    sys.stderr.write(f"{what}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _kept(as_json: bool) -> int:
    if as_json:
        print_json({"error": "nothing was deleted: the answer was not yes", "hint": ""})
    return 1


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"
