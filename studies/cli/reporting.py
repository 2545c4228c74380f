"""`harness report`: one self-contained HTML page of a study, or of runs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from studies.cli.bad_input import BadInput
from studies.cli.commands import find_run, open_tracking
from studies.cli.output import print_json
from studies.cli.streams import show
from studies.common.atomic_files import write_whole
from studies.common.state_folder import StateFolder
from studies.common.suggestions import did_you_mean

if TYPE_CHECKING:
    from studies.tracking.client import Tracking

HEXADECIMAL = re.compile(r"[0-9a-f]{1,32}")


def report(options: argparse.Namespace, overrides: dict[str, str], argv: list[str]) -> int:
    output = Path(options.output) if options.output is not None else None
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        what = "is a folder" if output.is_dir() else f"is in {output.parent}, which is not a folder"
        raise BadInput(f"output must be a file to write, but {options.output} {what}")
    tracking, state_folder = open_tracking(), StateFolder.find(options.storage)
    from studies.search import study_names

    studies = study_names(state_folder.storage)
    names = options.names
    if len(names) == 1 and names[0] in studies:
        page = _of_study(names[0], tracking, state_folder)
    else:
        page = _of_runs(names, studies, tracking, state_folder)
    path = output or Path(f"report-{'-'.join(map(_file_name, names[:4]))}.html")
    write_whole(path, page)
    if options.json:
        print_json({"path": str(path.resolve()), "bytes": path.stat().st_size})
    else:
        show(f"{path}  {path.stat().st_size / 1e6:.2g} MB")
    return 0


def _of_study(name: str, tracking: Tracking, state_folder: StateFolder) -> str:
    from studies.reports.study import study_report
    from studies.reports.study_page import study_page
    from studies.search import Search

    search = Search.existing(state_folder.storage, name)
    own = tracking.runs(None, name, 1, "tags.`harness.kind` = 'study'")
    parent = own[0].run_id if own else None
    return study_page(study_report(search, tracking.run, parent, state_folder.trial_folder))


def _of_runs(names: list[str], studies: list[str], tracking: Tracking, state_folder: StateFolder) -> str:
    from studies.reports.curves import logged_series
    from studies.reports.runs_page import RunReport, runs_page

    reports = []
    for name in names:
        if name in studies:
            raise BadInput(f"{name} is a study: a report shows one study, or several runs")
        is_run = HEXADECIMAL.fullmatch(name) or "/" in name or name == "latest" or name.startswith("best:")
        if not is_run:
            raise BadInput(f"unknown study or run {name}{did_you_mean(name, studies) or ': `harness runs` lists them'}")
        run = find_run(tracking, name)
        if run.kind == "study" and run.study is not None:
            raise BadInput(f"run {name} is that of a study: `harness report {run.study}` shows it")
        reports.append(RunReport(run, logged_series(state_folder.trial_folder(run.run_id))))
    return runs_page(reports)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:80]
