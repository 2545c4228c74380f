"""The commands that only read; they print text to stdout, or one JSON object."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from studies.cli.output import print_json
from studies.cli.streams import show
from studies.common.running_ui import remember_ui, removed_at_the_end
from studies.common.sqlite_files import sqlite_path
from studies.common.state_folder import StateFolder
from studies.common.strict_json import json_line

if TYPE_CHECKING:
    from studies.tracking.client import Tracking
    from studies.tracking.run_info import RunInfo


PLACES = ("best/step", "best/epoch")  # of older versions: where the best value was


def open_tracking() -> Tracking:
    """The tracking of this folder, for reading.

    Raises:
        ValueError: there are no runs yet, or the server does not answer.
    """
    state_folder = StateFolder.find()
    state_folder.check()
    database = sqlite_path(state_folder.tracking_uri)
    if database is not None and not database.exists():
        raise ValueError(f"no runs yet in {state_folder.folder}: `harness train NAME` creates one")
    from studies.tracking.client import Tracking

    return Tracking(state_folder.tracking_uri, state_folder.artifacts, notice=_notice)


def _notice(line: str) -> None:
    show(f"harness: {line}", file=sys.stderr)


def named_run(name: str) -> str:
    """The id of a run that is called `latest`, `best:STUDY` or `STUDY/NUMBER`; any other name as it is."""
    if re.fullmatch(r"[0-9a-f]+", name) or name.startswith("models:"):
        return name
    from studies.search.run_references import run_id_of

    return run_id_of(name, StateFolder.find())


def find_run(tracking: Tracking, prefix: str) -> RunInfo:
    """The run with this id or unique id prefix, or of another name; see studies.search.run_references."""
    prefix = named_run(prefix)
    if len(prefix) == 32:
        return tracking.run(prefix)
    matches = tracking.runs_beginning_with(prefix) if re.fullmatch("[0-9a-f]+", prefix) else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"run {prefix} is ambiguous: {', '.join(run.run_id for run in matches[:5])}")
    raise ValueError(f"unknown run {prefix}: `harness runs` lists them")


def doctor(storage: str | None, fix: bool, as_json: bool) -> int:
    """`harness doctor`: returns 0 if everything is consistent (after repairs), else 1."""
    from studies.console.progress import Display
    from studies.doctor.examination import visit

    state_folder = StateFolder.find(storage)
    if not state_folder.folder.exists():
        raise ValueError(f"no runs yet in {state_folder.folder}: `harness train NAME` creates one")
    state_folder.check(databases=False)
    with Display(title="doctor", metric=None, direction="maximize", total=1, live=False) as display:
        found, left = visit(state_folder, fix, display)
    if as_json:
        findings = [{"kind": item.kind, "where": item.where, "fix": item.fix} for item in found]
        print_json({"sound": not left, "findings": findings})
    elif not found:
        show("no problems found")
    elif fix:
        show(f"{len(found)} found, {len(left)} remaining")
    else:
        for item in found:
            show(f"{item.kind}: {item.where}\n    --fix: {item.fix}")
        show(f"\n{len(found)} found\nnext:  harness doctor --fix")
    return 1 if left else 0


def ui(experiment: str | None, host: str, port: int | None, open_browser: bool, as_json: bool) -> int:
    """`harness ui`."""
    from studies.web.mlflow_ui import serve

    tracking = open_tracking()
    if experiment is None:
        newest = tracking.runs(limit=1)
        experiment = newest[0].experiment if newest else None
    path = tracking.view(tracking.experiment_id(experiment)) if experiment is not None else ""
    state_folder = StateFolder.find()

    def announce(url: str) -> None:
        if not state_folder.is_remote:
            remember_ui(state_folder, url)
        print(json_line({"url": url}) if as_json else url, flush=True)

    with removed_at_the_end(state_folder):
        return serve(
            state_folder.tracking_uri,
            (state_folder.folder / "artifacts").as_uri(),  # of experiments that are created in the UI
            host=host,
            port=port,
            open_browser=open_browser,
            path=path,
            announce=announce,
        )


def demo(model: str | None, host: str, port: int | None, open_browser: bool, as_json: bool, trust: bool = False) -> int:
    """`harness demo`."""
    from studies.web.demo import demo as serve

    def announce(url: str, run_ids: list[str]) -> None:
        print(json_line({"url": url, "run_ids": run_ids}) if as_json else url, flush=True)

    return serve(model, host, port, open_browser, announce, trust)
